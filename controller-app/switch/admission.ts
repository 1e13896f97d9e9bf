/**
 * Who may be which switch. A datapath id has one connection at a time:
 *
 *   nobody has it                      the newcomer goes on with its handshake
 *   another is in its handshake        that one ends: a switch whose connection was cut comes back like this
 *   a switch that owes an answer       is given up at once
 *   a switch that seems well           is asked whether it lives: if it answers, the newcomer is refused; otherwise it is given up
 *
 * So two switches with one datapath id, or somebody who claims to be one, can't take turns in throwing each other out: the first stays.
 */
import { type Dpid, dpid } from '../../shared/domain/domain.js';
import { listed } from '../../shared/tls/index.js';
import type { FeaturesReply } from '../openflow/index.js';
import { helloFailed, OFPHFC_EPERM } from './codec.js';
import type { Connection } from './connection.js';
import { SwitchError, type SwitchErrorCode } from './errors.js';

export interface AdmissionOptions {
  /** Is this a switch that is known here? */
  readonly accepts: (dpid: Dpid) => boolean;
  readonly probeMs: number;
}

export class Admission {
  /** In their handshake, after they said who they are. */
  private readonly candidates = new Map<Dpid, Connection>();
  private readonly living = new Map<Dpid, Connection>();

  constructor(private readonly options: AdmissionOptions) {}

  /**
   * Settles when the newcomer may go on; with `certified` it may only be one of these. Fails with SwitchError `protocol`, `not-certified`,
   * `unknown-switch` or `duplicate`.
   */
  async admit(newcomer: Connection, features: FeaturesReply, certified?: readonly Dpid[]): Promise<Dpid> {
    if (features.auxiliaryId !== 0)
      throw refusal('protocol', 'auxiliary connections are not used: this one was refused');
    if (features.datapathId === 0n)
      throw refusal('protocol', 'datapath id 0 is nobody: give the switch another one');
    const id = dpid(features.datapathId);
    if (certified && !certified.includes(id))
      throw refusal(
        'not-certified',
        `a switch claims to be ${id}, and its certificate is for ${listed(certified)}: issue one for all bridges of its ovs-vswitchd ("paguro pki issue switch")`,
      );
    if (!this.options.accepts(id))
      throw refusal('unknown-switch', `switch ${id} is not in the configuration: add it under switches`);
    this.candidates
      .get(id)
      ?.close(new SwitchError('replaced', `switch ${id} has connected again, from ${newcomer.peer}`));
    this.candidates.set(id, newcomer);
    await this.makeRoom(id, newcomer);
    return id;
  }

  private async makeRoom(id: Dpid, newcomer: Connection): Promise<void> {
    const first = this.living.get(id);
    if (!first) return;
    const alive = !first.doubtful && (await first.lives(this.options.probeMs));
    // Meanwhile either may have gone by itself.
    if (first.closed || newcomer.closed) return;
    if (alive)
      throw refusal(
        'duplicate',
        `switch ${id} is connected already, from ${first.peer}, and answers: give one of the two another datapath id`,
      );
    first.close(
      new SwitchError(
        'replaced',
        `switch ${id} does not answer, and has connected again from ${newcomer.peer}`,
      ),
    );
  }

  /** Its handshake is complete. */
  settled(id: Dpid, connection: Connection): void {
    this.candidates.delete(id);
    this.living.set(id, connection);
  }

  /** Of a connection that has ended. */
  forget(connection: Connection): void {
    for (const place of [this.candidates, this.living])
      for (const [id, holder] of place) if (holder === connection) place.delete(id);
  }
}

function refusal(code: SwitchErrorCode, message: string): SwitchError {
  return new SwitchError(code, message, { answer: helloFailed(OFPHFC_EPERM, message, 0) });
}
