/** What a deployment is called as a whole. */

import type { Deployment, DeploymentHost } from '../types';

export function isFinal(host: DeploymentHost): boolean {
  return ['done', 'failed', 'cancelled'].includes(host.state);
}

export function isRunning(deployment: Deployment): boolean {
  return deployment.state === 'running';
}

/** What needs somebody, else what goes on, else the worst that came of it. */
export function stateOf(deployment: Deployment): string {
  if (deployment.unconfirmed > 0) return 'confirm-host-key';
  if (isRunning(deployment)) return 'running';
  if (deployment.failed > 0) return 'failed';
  return deployment.cancelledAt ? 'cancelled' : 'done';
}
