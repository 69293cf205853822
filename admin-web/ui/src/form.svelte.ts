/** A form on its way to the service: sends once at a time, and keeps what was refused where it belongs. */

import { problemOf, type Fault, type Problem } from './api';
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
    if (!problem) return '';
    const found = faultsOf(problem).filter((fault) => isAt(fault.field, field));
    if (found.length === 0) return '';
    const text = found.map((fault) => fault.detail).join('; ');
    return problem.requestId ? `${text} (${problem.requestId})` : text;
  }

  /** What is wrong with the rest. */
  get rest(): Problem | null {
    const problem = this.problem;
    if (!problem) return null;
    const isShown = (fault: Fault) => this.#fields.some((field) => isAt(fault.field, field));
    return problem.field !== '' && faultsOf(problem).every(isShown) ? null : problem;
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

/** What is wrong with which field. */
export function faultsOf(problem: Problem): readonly Fault[] {
  if (problem.errors.length > 0) return problem.errors;
  return problem.field === '' ? [] : [{ field: problem.field, detail: sayingAtField(problem) }];
}

/** What a problem says where its field is in sight, and need not be named. */
export function sayingAtField(problem: Problem): string {
  const said = problem.detail || saying(problem);
  const prefix = `${problem.field}: `;
  return said.startsWith(prefix) ? said.slice(prefix.length) : said;
}

function isAt(path: string, field: string): boolean {
  return path === field || path.startsWith(`${field}.`) || path.startsWith(`${field}[`);
}
