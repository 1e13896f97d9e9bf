/**
 * A lab: private namespaces with their own Open vSwitch, Docker and Mininet. Nothing on the machine is touched, and everything is
 * gone when the lab's first process ends.
 *
 * A test or program that is to run in one begins with
 *
 *   import '../lab/enter.js';
 *
 * and then calls what it needs: `startOpenVSwitch`, `startDocker`, `startMininet`. It must end by itself (`process.exit`, or nothing
 * left to wait for); what it started need not be closed. From outside, `runInLab(argv)` runs any program in a new lab.
 */
export { type Daemon, startDaemon, tail } from './daemon.js';
export { type Docker, type DockerOptions, startDocker } from './docker.js';
export { LabError, type LabErrorCode } from './error.js';
export { type Lab, liveLabs, sweepDeadLabs } from './folder.js';
export { type RunInLabOptions, runInLab } from './launch.js';
export {
  type HostSpec,
  type Mininet,
  type Move,
  type NetworkSpec,
  type SendingLink,
  type SwitchDescription,
  startMininet,
} from './mininet.js';
export { type OpenVSwitch, startOpenVSwitch } from './openvswitch.js';
export { certifySwitches, labCertificate, tlsYaml } from './pki.js';
export { currentLab, insideLab, prepareLab } from './prepare.js';
export { sourceFile } from './project.js';
export { type WaitOptions, waitFor } from './wait.js';
