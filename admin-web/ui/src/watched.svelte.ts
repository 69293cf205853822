/** Something read from the service and kept fresh while a component shows it. */

import { isPassing, problemOf, type Problem } from './api';
import { attention } from './attention.svelte';
import { live } from './live.svelte';
import { Stream } from './stream';
import type { Event } from './types';

/** Events come in bursts; what they concern is read once. */
const SETTLE = 250;
/** What failed for a reason that passes is tried again. */
const RETRY = 3_000;

interface Options<T> {
  /** Which events may have changed it; by default none. */
  when?: (event: Event) => boolean;
  /** After how many milliseconds what was read is read again, for what no event tells; undefined: never. */
  every?: (value: T | undefined) => number | undefined;
  /** Where newer values come by themselves, for as long as `every` wants any; nothing is read again while they do. */
  stream?: () => string;
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
    /** When the timer ends; what comes meanwhile never puts it off. */
    let due = Infinity;
    let stream: Stream | null = null;
    /** Whether newer values come by themselves: as soon as the stream has opened, its first message is newer than any event. */
    let flow: 'none' | 'opening' | 'open' = 'none';
    /** How many values came by themselves: what was asked for before one of them is older. */
    let told = 0;

    const take = (value: T) => {
      result.value = value;
      result.problem = null;
    };
    const read = async (first: Promise<T>) => {
      result.loading = true;
      const before = told;
      try {
        const value = await first;
        if (!stop.signal.aborted && told === before) take(value);
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
      else if (result.problem && isPassing(result.problem)) soon(RETRY);
      else plan();
    };
    const now = (): Promise<void> => {
      rest();
      if (running) {
        again = true;
        return running;
      }
      again = false;
      return (running = read(load(stop.signal)));
    };
    const soon = (pause: number) => {
      if (Date.now() + pause >= due) return;
      rest();
      due = Date.now() + pause;
      timer = setTimeout(() => {
        due = Infinity;
        if (attention.isPaid) void now();
        else soon(1000);
      }, pause);
    };
    const rest = () => {
      clearTimeout(timer);
      due = Infinity;
    };
    const plan = () => {
      const pause = options.every?.(result.value);
      if (pause === undefined) close();
      else if (options.stream && !stream) {
        rest();
        flow = 'opening';
        stream = open(options.stream());
      }
      if (pause !== undefined && flow !== 'open') soon(pause);
    };
    const open = (path: string) =>
      new Stream(path, {
        opened: () => {
          flow = 'open';
          rest();
        },
        message: (data) => {
          told += 1;
          take(JSON.parse(data) as T);
          plan();
        },
        broken: stalled,
        crowded: stalled,
      });
    const stalled = () => {
      flow = 'none';
      plan();
    };
    const close = () => {
      stream?.close();
      stream = null;
      flow = 'none';
    };

    // The first read runs inside the effect, so that what it depends on is known.
    result.problem = null;
    running = read(load(stop.signal));
    result.refresh = now;
    const unlisten = live.listen((event) => {
      if (flow === 'none' && (event === 'reconnected' || options.when?.(event))) soon(SETTLE);
    });
    return () => {
      stop.abort();
      close();
      rest();
      unlisten();
    };
  });
  return result;
}
