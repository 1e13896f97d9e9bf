import '../lab/enter.js';
import t from 'tap';
import { readdirSync, readFileSync } from 'node:fs';
import { currentLab } from '../lab/index.js';
process.on('exit', () => { const f = currentLab().folder; for (const n of readdirSync(f)) if (/node|log/.test(n)) console.error('=== ' + n + '\n' + readFileSync(f + '/' + n, 'utf8').slice(-6000)); });
import { Paguro } from '../harness/paguro.js';

t.test('first try', async (t) => {
  const paguro = await Paguro.start();
  t.comment(JSON.stringify(await paguro.api.status()));
  t.comment(JSON.stringify(await paguro.attach('alice', 'h1', 'sdn-1')));
  const ping = await paguro.host('h1').exec('ping', ['-c', '3', '-i', '0.2', '-w', '3', '10.0.0.2']).catch((e) => e);
  t.comment(ping.stdout ?? ping.message);
  const ping6 = await paguro.host('h1').exec('ping', ['-c', '3', '-i', '0.2', '-w', '3', 'fd00::2']).catch((e) => e);
  t.comment(ping6.stdout ?? ping6.message);
  const move = await paguro.move('h1', 's2');
  t.comment(JSON.stringify(move));
  await paguro.host('h1').exec('ping', ['-c', '3', '-i', '0.2', '-w', '3', '10.0.0.2']).catch((e) => t.comment(e.message));
  const settled = await paguro.settled('alice', 'edge-1').catch((e) => e);
  t.comment(JSON.stringify(settled), settled.message);
  t.comment(JSON.stringify(await paguro.api.handovers()));
  const ping2 = await paguro.host('h1').exec('ping', ['-c', '3', '-i', '0.2', '-w', '3', '10.0.0.2']).catch((e) => e);
  t.comment(ping2.stdout ?? ping2.message);
  await paguro.close();
});
