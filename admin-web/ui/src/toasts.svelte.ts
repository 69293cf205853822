/** Short messages about what just happened; failures stay until they are dismissed. */

import type { Problem } from './api';
import { words } from './i18n.svelte';

const SHOWN = 5_000;

export interface Toast {
  id: number;
  kind: 'good' | 'bad';
  text: string;
  requestId: string;
}

class Toasts {
  shown = $state<Toast[]>([]);
  #next = 0;

  good(text: string): void {
    const id = this.#add('good', text, '');
    setTimeout(() => this.dismiss(id), SHOWN);
  }

  bad(problem: Problem): void {
    this.#add('bad', saying(problem), problem.requestId);
  }

  dismiss(id: number): void {
    this.shown = this.shown.filter((toast) => toast.id !== id);
  }

  #add(kind: Toast['kind'], text: string, requestId: string): number {
    const id = this.#next++;
    this.shown.push({ id, kind, text, requestId });
    return id;
  }
}

export const toasts = new Toasts();

/** What a problem says to a person; the service's sentence is English, and goes behind what its status means in other languages. */
export function saying({ status, detail }: Problem): string {
  if (status === 0 && !detail) return words().common.unreachable;
  const meaning = words().refusals[status];
  return meaning && detail ? `${meaning}: ${detail}` : (meaning ?? detail);
}
