/**
 * The stream of events from the service: one `EventSource` for the whole page. It tells what is shown that it may have
 * changed; what changed is read again from the API, so a lost event costs nothing but time.
 */

import { session as sessionApi, problemOf } from './api';
import { session } from './session.svelte';
import type { Event } from './types';

const FIRST_PAUSE = 500;
const LONGEST_PAUSE = 15_000;
/** A stream that breaks right after it opened is no connection yet. */
const STEADY = 2_000;
/** How long a first connection may take before it is called lost. */
const PATIENCE = 1_500;

type Listener = (event: Event | 'reconnected') => void;

class Live {
  /** Whether the stream is broken, long enough to be told. */
  lost = $state(false);
  #source: EventSource | null = null;
  #listeners = new Set<Listener>();
  #pause = FIRST_PAUSE;
  #retry: ReturnType<typeof setTimeout> | undefined;
  #announce: ReturnType<typeof setTimeout> | undefined;
  #steady: ReturnType<typeof setTimeout> | undefined;
  #wasOpen = false;

  start(): void {
    if (this.#source) return;
    const source = new EventSource('/api/v1/events/watch');
    this.#source = source;
    source.addEventListener('open', () => this.#opened());
    source.addEventListener('message', (message) => this.#tell(message.data as string));
    // Both a broken connection and an event named `error`, which is the stream's last word.
    source.addEventListener('error', () => this.#broken());
  }

  stop(): void {
    this.#source?.close();
    this.#source = null;
    for (const timer of [this.#retry, this.#announce, this.#steady]) clearTimeout(timer);
    this.#announce = undefined;
    this.lost = false;
    this.#wasOpen = false;
    this.#pause = FIRST_PAUSE;
  }

  /** Tries again at once. */
  retry(): void {
    clearTimeout(this.#retry);
    this.#source?.close();
    this.#source = null;
    this.start();
  }

  listen(listener: Listener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #opened(): void {
    clearTimeout(this.#announce);
    this.#announce = undefined;
    this.lost = false;
    this.#steady = setTimeout(() => (this.#pause = FIRST_PAUSE), STEADY);
    if (this.#wasOpen) for (const listener of this.#listeners) listener('reconnected');
    this.#wasOpen = true;
  }

  #tell(data: string): void {
    const event = JSON.parse(data) as Event;
    for (const listener of this.#listeners) listener(event);
  }

  #broken(): void {
    clearTimeout(this.#steady);
    this.#source?.close();
    this.#source = null;
    this.#announce ??= setTimeout(() => (this.lost = true), PATIENCE);
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => void this.#again(), this.#pause * (0.75 + Math.random() / 2));
    this.#pause = Math.min(this.#pause * 2, LONGEST_PAUSE);
  }

  /** An `EventSource` does not say why it broke; the session may be over. */
  async #again(): Promise<void> {
    try {
      await sessionApi.get();
    } catch (error) {
      if (problemOf(error).status === 401) return session.end();
    }
    if (session.who) this.start();
  }
}

export const live = new Live();
