/** What the browser remembers of a person's taste; never anything secret. */

const key = (name: string) => `cladnet.${name}`;

export function recall<T extends string>(name: string, known: readonly T[], otherwise: T): T {
  try {
    const kept = window.localStorage.getItem(key(name));
    return known.find((value) => value === kept) ?? otherwise;
  } catch {
    return otherwise; // storage is switched off
  }
}

export function remember(name: string, value: string): void {
  try {
    window.localStorage.setItem(key(name), value);
  } catch {
    // Storage is switched off or full: it is asked again next time.
  }
}
