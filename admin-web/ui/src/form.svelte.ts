/** A form on its way to the service: sends once at a time, and keeps what was refused where it belongs. */

import { problemOf, type Problem } from './api';
import { saying } from './toasts.svelte';

export class Form {
  busy = $state(false);
  problem = $state.raw<Problem | null>(null);
  readonly #fields: readonly string[];

  /** `fields` are those that show what is wrong with them; all else is shown by the form. */
  constructor(...fields: string[]) {
    this.#fields = fields;
  }

  /** What is wrong with a field, in words; empty if nothing is. */
  at(field: string): string {
    const problem = this.problem;
    if (!problem || !isAt(problem.field, field)) return '';
    const text = sayingAtField(problem);
    return problem.requestId ? `${text} (${problem.requestId})` : text;
  }

  /** What is wrong with the rest. */
  get rest(): Problem | null {
    const problem = this.problem;
    return problem && !this.#fields.some((field) => isAt(problem.field, field)) ? problem : null;
  }

  /** Carries `work` out; whether it went well. */
  async send(work: () => Promise<void>): Promise<boolean> {
    if (this.busy) return false;
    this.busy = true;
    this.problem = null;
    try {
      await work();
      return true;
    } catch (error) {
      this.problem = problemOf(error);
      return false;
    } finally {
      this.busy = false;
    }
  }
}

/** What a problem says where its field is in sight, and need not be named. */
export function sayingAtField(problem: Problem): string {
  const said = saying(problem);
  const prefix = `${problem.field}: `;
  return said.startsWith(prefix) ? said.slice(prefix.length) : said;
}

function isAt(path: string, field: string): boolean {
  return path === field || path.startsWith(`${field}.`) || path.startsWith(`${field}[`);
}
