/**
 * The bounds of the API's listeners.
 */

/** How many connections one listener takes at a time. */
export const MAX_CONNECTIONS = 128;
/** How long a client may take to send its request, in ms. */
export const REQUEST_TIMEOUT_MS = 30_000;
