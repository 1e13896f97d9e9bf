/** What a message has beside its fields: not to be taken for properties. */
export const HEADER: readonly string[] = ['type', 'xid', 'version'];
