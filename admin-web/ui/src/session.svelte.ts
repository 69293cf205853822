/** Who is signed in. The browser keeps nothing of it but a cookie that no script can read. */

import * as api from './api';
import type { Session } from './types';

/** Between attempts to ask a service that does not answer. */
const RETRY = 3_000;

class SignedIn {
  /** Undefined until the service has said; null while nobody is signed in. */
  who = $state<Session | null | undefined>(undefined);
  /** Whether a session was there and is over, so that its owner is told why the page is gone. */
  ended = $state(false);
  /** The service could not be asked. */
  problem = $state<api.Problem | null>(null);

  async resume(): Promise<void> {
    try {
      this.who = await api.session.get();
      this.problem = null;
    } catch (error) {
      const problem = api.problemOf(error);
      if (problem.status === 401) this.who = null;
      this.problem = problem.status === 401 ? null : problem;
      if (api.isPassing(problem)) setTimeout(() => void (this.problem === problem && this.resume()), RETRY);
    }
  }

  /** Throws the problem that the service has with the key. */
  async signIn(apiKey: string): Promise<void> {
    this.who = await api.session.create(apiKey);
    this.ended = false;
  }

  async signOut(): Promise<void> {
    await api.session.remove();
    this.who = null;
    this.ended = false;
  }

  /** The service no longer knows us. */
  end(): void {
    if (!this.who) return;
    this.who = null;
    this.ended = true;
  }

  /** Whether a call that needs this action would be let through. */
  may(action: string): boolean {
    return this.who?.actions.includes(action) ?? false;
  }
}

export const session = new SignedIn();
api.onSessionEnd(() => session.end());
