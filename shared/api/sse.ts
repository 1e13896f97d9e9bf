/**
 * Server-sent events (HTML Living Standard, section 9.2): writing one, and reading them out of a stream of bytes.
 */
import { ApiError } from './errors.js';

/** Largest event that a reader takes, in characters. */
export const MAX_EVENT_LENGTH = 2 ** 20;
/** A comment, which readers pass over: it tells both sides that the other is there. */
export const HEARTBEAT = ':\n\n';

/** `data` must be on one line, as JSON is. */
export function formatEvent(data: string): string {
  return `data: ${data}\n\n`;
}

/** The data of each event. Lines end with LF, CR or CR LF; fields other than `data` are passed over. */
export async function* readEvents(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let buffer = '';
  let data: string[] = [];
  let length = 0;
  for await (const chunk of chunks) {
    buffer += decoder.decode(chunk, { stream: true });
    let start = 0;
    for (;;) {
      const end = lineEnd(buffer, start);
      if (end === undefined) break;
      const line = buffer.slice(start, end.at);
      start = end.next;
      if (line === '') {
        if (data.length > 0) yield data.join('\n');
        data = [];
        length = 0;
      } else if (line.startsWith('data:')) {
        data.push(line.slice(line[5] === ' ' ? 6 : 5));
        length += line.length;
      }
    }
    buffer = buffer.slice(start);
    if (buffer.length + length > MAX_EVENT_LENGTH) {
      throw new ApiError('too-large', `an event is longer than ${MAX_EVENT_LENGTH} characters`);
    }
  }
}

function lineEnd(text: string, from: number): { at: number; next: number } | undefined {
  for (let at = from; at < text.length; at++) {
    if (text[at] === '\n') return { at, next: at + 1 };
    if (text[at] !== '\r') continue;
    // A CR at the very end may be half of CR LF.
    if (at + 1 === text.length) return undefined;
    return { at, next: text[at + 1] === '\n' ? at + 2 : at + 1 };
  }
  return undefined;
}
