/** The names of an instance's interfaces inside its own network namespace. Rules tell the direction by them. */
export const INNER = { terminalSide: 'ter', networkSide: 'net', bridge: 'br0' } as const;
