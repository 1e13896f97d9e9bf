/**
 * A store that ends with the process: for a controller that is to keep nothing, and for tests.
 */
import { Contents } from './contents.js';
import { KeptStore } from './kept-store.js';
import type { StoreHealth } from './store.js';

export class MemoryStore extends KeptStore {
  constructor() {
    const contents = new Contents();
    super(contents, async (entries) => {
      for (const entry of entries) contents.apply(entry);
    });
  }

  async flushed(): Promise<void> {}

  health(): StoreHealth {
    return { bytes: 0 };
  }

  async close(): Promise<void> {}
}
