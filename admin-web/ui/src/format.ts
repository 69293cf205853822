/** Numbers and times as people of the chosen language write them. */

import { i18n } from './i18n.svelte';
import type { Instant } from './types';

const cache = new Map<string, unknown>();

/** Making an `Intl` object is slow, and tables need thousands. */
function cached<F>(name: string, make: (language: string) => F): F {
  const key = `${i18n.language}/${name}`;
  if (!cache.has(key)) cache.set(key, make(i18n.language));
  return cache.get(key) as F;
}

export function number(value: number, digits = 0): string {
  const make = (language: string) =>
    new Intl.NumberFormat(language, { minimumFractionDigits: digits, maximumFractionDigits: digits });
  return cached(`number${digits}`, make).format(value);
}

/** Dollars out of nano-dollars, without rounding; a dash if they are not known. */
export function usd(nano: string | undefined): string {
  if (nano === undefined) return '–';
  const digits = nano.padStart(10, '0');
  const decimals = digits.slice(-9).replace(/0+$/, '');
  return digits.slice(0, -9) + (decimals ? `.${decimals}` : '');
}

/** Microseconds as milliseconds, with as many digits as mean something. */
export function rtt(us: number): string {
  if (us <= 0) return '–';
  const ms = us / 1000;
  return `${number(ms, ms < 1 ? 2 : ms < 100 ? 1 : 0)} ms`;
}

export function percent(value: number): string {
  return `${number(value, value > 0 && value < 10 ? 1 : 0)} %`;
}

/** A count of bytes, which the API writes as a string. */
export function bytes(text: string): string {
  let value = Number(text);
  for (const unit of ['B', 'kB', 'MB', 'GB']) {
    if (value < 1000) return `${number(value, unit === 'B' || value >= 100 ? 0 : 1)} ${unit}`;
    value /= 1000;
  }
  return `${number(value, 1)} TB`;
}

/** An instant of these days, where there is little room. */
export function shortTime(at: Instant): string {
  if (!at) return '–';
  const shape = { month: 'short', day: 'numeric', hour: 'numeric', minute: '2-digit', second: '2-digit' } as const;
  return cached('shortTime', (language) => new Intl.DateTimeFormat(language, shape)).format(new Date(at));
}

export function dateTime(at: Instant): string {
  if (!at) return '–';
  const make = (language: string) => new Intl.DateTimeFormat(language, { dateStyle: 'medium', timeStyle: 'medium' });
  return cached('dateTime', make).format(new Date(at));
}

/** Seconds; our clock ticks more slowly than that, and the service's may differ. */
const JUST_NOW = 15;

const STEPS: [Intl.RelativeTimeFormatUnit, number][] = [
  ['second', 60],
  ['minute', 60],
  ['hour', 24],
  ['day', 30],
  ['month', 12],
];

/** How far away an instant is, such as "5 minutes ago". */
export function ago(at: Instant, now: number): string {
  if (!at) return '–';
  const make = (language: string) => new Intl.RelativeTimeFormat(language, { numeric: 'auto' });
  const format = cached('ago', make);
  let distance = (new Date(at).getTime() - now) / 1000;
  if (Math.abs(distance) < JUST_NOW) return format.format(0, 'second');
  for (const [unit, count] of STEPS) {
    // What is rounded up to a whole of the next unit is told in that.
    if (Math.abs(Math.round(distance)) < count) return format.format(Math.round(distance), unit);
    distance /= count;
  }
  return format.format(Math.round(distance), 'year');
}

function amount(unit: 'minute' | 'second', value: number): string {
  const make = (language: string) => new Intl.NumberFormat(language, { style: 'unit', unit, unitDisplay: 'narrow' });
  return cached(unit, make).format(value);
}

/** Time between two instants in seconds or minutes. */
export function lasted(from: Instant, until: Instant, now: number): string {
  if (!from) return '–';
  const total = Math.max(0, Math.round(((until ? new Date(until).getTime() : now) - new Date(from).getTime()) / 1000));
  const [minutes, seconds] = [Math.floor(total / 60), amount('second', total % 60)];
  return minutes > 0 ? `${amount('minute', minutes)} ${seconds}` : seconds;
}
