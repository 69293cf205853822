/** How far a deployment is, summed up over its machines. */

import type { Deployment, DeploymentHost } from '../types';

const FINAL = ['done', 'failed', 'cancelled'];

export function isFinal(host: DeploymentHost): boolean {
  return FINAL.includes(host.state);
}

export function isRunning(deployment: Deployment): boolean {
  return deployment.hosts.some((host) => !isFinal(host));
}

/** What the whole is called: the worst that needs somebody, else what goes on. */
export function stateOf(deployment: Deployment): string {
  const states = deployment.hosts.map((host) => host.state);
  if (states.includes('confirm-host-key')) return 'confirm-host-key';
  if (isRunning(deployment)) return 'running';
  if (states.includes('failed')) return 'failed';
  return states.includes('cancelled') || deployment.cancelledAt ? 'cancelled' : 'done';
}

export function countOf(deployment: Deployment, ...states: string[]): number {
  return deployment.hosts.filter((host) => states.includes(host.state)).length;
}
