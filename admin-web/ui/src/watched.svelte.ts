/** Something read from the service and kept fresh while a component shows it. */

import { problemOf, type Problem } from './api';
import { live } from './live.svelte';
import type { Event } from './types';

/** Events come in bursts; what they concern is read once. */
const SETTLE = 250;
/** Nobody looks: an idle page must not keep its session alive for ever. */
const IDLE = 10 * 60_000;

let lastInput = Date.now();
for (const kind of ['pointerdown', 'keydown', 'wheel', 'focus'] as const) {
  window.addEventListener(kind, () => (lastInput = Date.now()), { passive: true, capture: true });
}
const isWatched = () => document.visibilityState === 'visible' && Date.now() - lastInput < IDLE;

interface Options<T> {
  /** Which events may have changed it; by default none. */
  when?: (event: Event) => boolean;
  /** After how many milliseconds what was read is read again, for what no event tells; undefined: never. */
  every?: (value: T | undefined) => number | undefined;
}

export class Watched<T> {
  value = $state.raw<T | undefined>(undefined);
  problem = $state.raw<Problem | null>(null);
  loading = $state(false);
  /** Reads it again now. */
  refresh: () => Promise<void> = async () => {};
}

/**
 * Reads with `load`, again whenever something reactive that `load` uses changes, an event of `when` comes, the connection
 * came back or `every` has passed. To be called while a component is made; ends with it.
 */
export function watched<T>(load: (signal: AbortSignal) => Promise<T>, options: Options<NoInfer<T>> = {}): Watched<T> {
  const result = new Watched<T>();
  $effect(() => {
    const stop = new AbortController();
    let running: Promise<void> | null = null;
    let again = false;
    let timer: ReturnType<typeof setTimeout> | undefined;

    const read = async (first: Promise<T>) => {
      result.loading = true;
      try {
        const value = await first;
        if (stop.signal.aborted) return;
        result.value = value;
        result.problem = null;
      } catch (error) {
        if (!stop.signal.aborted) result.problem = problemOf(error);
      } finally {
        if (!stop.signal.aborted) finish();
      }
    };
    const finish = () => {
      result.loading = false;
      running = null;
      if (again) soon(SETTLE);
      else plan();
    };
    const now = (): Promise<void> => {
      clearTimeout(timer);
      if (running) {
        again = true;
        return running;
      }
      again = false;
      return (running = read(load(stop.signal)));
    };
    const soon = (pause: number) => {
      clearTimeout(timer);
      timer = setTimeout(() => void (isWatched() ? now() : soon(1000)), pause);
    };
    const plan = () => {
      const pause = options.every?.(result.value);
      if (pause !== undefined) soon(pause);
    };

    // The first read runs inside the effect, so that what it depends on is known.
    result.problem = null;
    running = read(load(stop.signal));
    result.refresh = now;
    const unlisten = live.listen((event) => {
      if (event === 'reconnected' || options.when?.(event)) soon(SETTLE);
    });
    return () => {
      stop.abort();
      clearTimeout(timer);
      unlisten();
    };
  });
  return result;
}
