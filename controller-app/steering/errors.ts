/** What can go wrong with leading a terminal's traffic. `message` says what to do. */
export class SteeringError extends Error {
  override readonly name = 'SteeringError';
  constructor(
    readonly code: 'no-port' | 'no-path' | 'not-connected',
    message: string,
  ) {
    super(message);
  }
}
