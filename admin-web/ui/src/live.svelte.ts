/**
 * The stream of events from the service: one for the whole page. It tells what is shown that it may have changed; what
 * changed is read again from the API, so a lost event costs nothing but time. Where the service gives no stream, what is
 * shown is read again from time to time.
 */

import { Stream } from './stream';
import type { Event } from './types';

/** How long a first connection may take before it is called lost. */
const PATIENCE = 1_500;
/** How often what is shown is read again while there is no stream to be had. */
const POLL = 5_000;

type Listener = (event: Event | 'reconnected') => void;

class Live {
  /** Whether the stream is broken, long enough to be told. */
  lost = $state(false);
  #stream: Stream | null = null;
  #listeners = new Set<Listener>();
  #announce: ReturnType<typeof setTimeout> | undefined;
  #polling: ReturnType<typeof setInterval> | undefined;
  #wasOpen = false;

  start(): void {
    this.#stream ??= new Stream('/events/watch', {
      opened: () => this.#opened(),
      message: (data) => this.#tell(JSON.parse(data) as Event),
      broken: () => {
        this.#rest();
        this.#announce ??= setTimeout(() => (this.lost = true), PATIENCE);
      },
      crowded: () => {
        this.#found();
        this.#polling ??= setInterval(() => this.#tell('reconnected'), POLL);
      },
    });
  }

  stop(): void {
    this.#stream?.close();
    this.#stream = null;
    this.#rest();
    this.#found();
    this.#wasOpen = false;
  }

  /** Tries again at once. */
  retry(): void {
    this.#stream?.retry();
  }

  listen(listener: Listener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #opened(): void {
    this.#rest();
    this.#found();
    if (this.#wasOpen) this.#tell('reconnected');
    this.#wasOpen = true;
  }

  #rest(): void {
    clearInterval(this.#polling);
    this.#polling = undefined;
  }

  #found(): void {
    clearTimeout(this.#announce);
    this.#announce = undefined;
    this.lost = false;
  }

  #tell(event: Event | 'reconnected'): void {
    for (const listener of this.#listeners) listener(event);
  }
}

export const live = new Live();
