/**
 * The names of an instance's interfaces inside its own network namespace: rules tell the direction by them. The bridge has a MAC that is no host's.
 */
export const INNER = {
  terminalSide: 'ter',
  networkSide: 'net',
  bridge: 'br0',
  bridgeMac: '02:70:61:67:75:72',
} as const;

/** A terminal's frame with a tag of 4 bytes must fit wherever one of 1500 bytes does. */
export const MTU = 1504;
