/**
 * Docker in a lab: containerd and dockerd with all that they keep in the lab's /run, no bridge and no iptables rules of their own.
 * containerd is started beside dockerd, not by it, because only so can it be told not to write to /opt.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { connect } from 'node:net';
import { type Daemon, startDaemon } from './daemon.js';
import { prepareLab } from './prepare.js';

const FOLDER = '/run/paguro-docker';
const SOCKET = '/run/docker.sock';
const CONTAINERD_SOCKET = `${FOLDER}/containerd.sock`;
const HINT = 'Docker needs overlay file systems and cgroups; in a container, run it privileged.';
const CONTAINERD_CONFIG = `version = 2
root = "${FOLDER}/containerd"
state = "${FOLDER}/containerd-state"
disabled_plugins = [
  "io.containerd.internal.v1.opt", "io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper",
]
[grpc]
  address = "${CONTAINERD_SOCKET}"
`;

export interface DockerOptions {
  /** Storage of images and containers. Default `overlay2`, on the lab's tmpfs. */
  readonly storageDriver?: string;
}

export interface Docker {
  /** Docker's usual one, as seen in the lab: clients need no configuration. */
  readonly socketPath: string;
  readonly pid: number;
  readonly logFile: string;
  /** Ends both daemons; containers that still run are stopped by the kernel with the lab. May be called twice. */
  close(): Promise<void>;
}

/** Starts Docker and waits until it answers. Fails with `did-not-start` and the end of the log. */
export async function startDocker({ storageDriver = 'overlay2' }: DockerOptions = {}): Promise<Docker> {
  const lab = prepareLab();
  mkdirSync(FOLDER, { recursive: true });
  writeFileSync(`${FOLDER}/containerd.toml`, CONTAINERD_CONFIG);
  // The machine's own /etc/docker/daemon.json does not count, and no key is written beside it.
  writeFileSync(`${FOLDER}/daemon.json`, JSON.stringify({ 'deprecated-key-path': `${FOLDER}/key.json` }));
  const containerd = await startDaemon(
    'containerd',
    ['--config', `${FOLDER}/containerd.toml`],
    () => accepts(CONTAINERD_SOCKET),
    { hint: HINT },
  );
  let dockerd: Daemon;
  try {
    dockerd = await startDaemon(
      'dockerd',
      [
        ...['--config-file', `${FOLDER}/daemon.json`, '--containerd', CONTAINERD_SOCKET],
        ...['--host', `unix://${SOCKET}`, '--pidfile', `${FOLDER}/dockerd.pid`],
        ...['--data-root', `${FOLDER}/data`, '--exec-root', `${FOLDER}/exec`],
        ...['--bridge=none', '--iptables=false', '--ip6tables=false'],
        ...['--exec-opt', 'native.cgroupdriver=cgroupfs', '--cgroup-parent', lab.cgroup],
        ...['--storage-driver', storageDriver, '--shutdown-timeout', '1'],
      ],
      () => answers(SOCKET),
      { hint: HINT },
    );
  } catch (error) {
    await containerd.close();
    throw error;
  }
  return {
    socketPath: SOCKET,
    pid: dockerd.pid,
    logFile: dockerd.logFile,
    close: async () => {
      await dockerd.close();
      await containerd.close();
    },
  };
}

/** Does something accept connections at this Unix socket? */
function accepts(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}

/** Does Docker's API answer? The socket is there before that. */
function answers(socketPath: string): Promise<boolean> {
  return new Promise((resolve) => {
    const asked = request({ socketPath, path: '/_ping', timeout: 1_000 }, (response) => {
      response.resume();
      resolve(response.statusCode === 200);
    });
    asked.once('timeout', () => asked.destroy());
    asked.once('error', () => resolve(false));
    asked.end();
  });
}
