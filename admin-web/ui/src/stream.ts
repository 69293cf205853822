/**
 * A stream of server-sent events that opens itself again after it broke, each time a little later, until it is closed or the
 * session is over.
 */

import { problemOf, session as sessionApi, streamStatus } from './api';
import { session } from './session.svelte';

const FIRST_PAUSE = 500;
const LONGEST_PAUSE = 15_000;
/** A stream that breaks right after it opened is no connection yet. */
const STEADY = 2_000;
/** The service sends a heartbeat every 15 s when it has nothing to say: a stream that is silent for longer is dead. */
const SILENCE = 35_000;
/** Asking about the session goes over the same line, which may be dead; another attempt finds another one. */
const ANSWER = 10_000;

interface Listener {
  opened: () => void;
  message: (data: string) => void;
  broken: () => void;
  /** The service gives no more streams to this API key: whoever listens has to ask instead, until it is opened. */
  crowded: () => void;
}

export class Stream {
  readonly #path: string;
  readonly #listener: Listener;
  #source: EventSource | null = null;
  #isClosed = false;
  #pause = FIRST_PAUSE;
  #retry: ReturnType<typeof setTimeout> | undefined;
  #steady: ReturnType<typeof setTimeout> | undefined;
  #silence: ReturnType<typeof setTimeout> | undefined;

  /** `path` is below `/api/v1`. */
  constructor(path: string, listener: Listener) {
    this.#path = path;
    this.#listener = listener;
    this.retry();
  }

  /** Tries again at once. */
  retry(): void {
    clearTimeout(this.#retry);
    this.#source?.close();
    const source = new EventSource(`/api/v1${this.#path}`);
    this.#source = source;
    this.#heard();
    source.addEventListener('open', () => this.#opened());
    source.addEventListener('heartbeat', () => this.#heard());
    source.addEventListener('message', (message) => {
      this.#heard();
      this.#listener.message(message.data as string);
    });
    let isOpen = false;
    source.addEventListener('open', () => (isOpen = true));
    // A refusal, a broken connection, or an event named `error`, which is the stream's last word.
    source.addEventListener('error', () => {
      if (source.readyState === EventSource.CLOSED && !isOpen) void this.#refused();
      else this.#broken();
    });
  }

  close(): void {
    this.#isClosed = true;
    this.#source?.close();
    clearTimeout(this.#retry);
    clearTimeout(this.#steady);
    clearTimeout(this.#silence);
  }

  #heard(): void {
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => this.#broken(), SILENCE);
  }

  #opened(): void {
    this.#heard();
    this.#steady = setTimeout(() => (this.#pause = FIRST_PAUSE), STEADY);
    this.#listener.opened();
  }

  #broken(): void {
    clearTimeout(this.#steady);
    clearTimeout(this.#retry);
    clearTimeout(this.#silence);
    this.#source?.close();
    this.#retry = setTimeout(() => void this.#again(), this.#pause * (0.75 + Math.random() / 2));
    this.#pause = Math.min(this.#pause * 2, LONGEST_PAUSE);
    this.#listener.broken();
  }

  /** An `EventSource` does not say why it was refused; the same question does. */
  async #refused(): Promise<void> {
    clearTimeout(this.#silence);
    const refused = this.#source;
    const status = await streamStatus(this.#path);
    if (this.#isClosed || this.#source !== refused) return;
    if (status === 401) return session.end();
    if (status !== 429) return this.#broken();
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => this.retry(), LONGEST_PAUSE * (0.75 + Math.random() / 2));
    this.#listener.crowded();
  }

  /** An `EventSource` does not say why it broke; the session may be over. */
  async #again(): Promise<void> {
    try {
      await sessionApi.get(AbortSignal.timeout(ANSWER));
    } catch (error) {
      if (problemOf(error).status === 401) return session.end();
    }
    if (!this.#isClosed) this.retry();
  }
}
