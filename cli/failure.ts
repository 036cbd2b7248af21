/** What the user reads when a command fails: what happened, and what to do. Never a stack. */
import { messageOf } from '../shared/runtime/errors.ts'
import { KubeError } from '../shared/kube/errors.ts'

export function describeFailure(error: unknown): string {
  if (error instanceof KubeError && error.status === 403) {
    return `error: ${error.message}\nneeds: ${error.needs}\n`
  }
  if (error instanceof KubeError && error.status === 401) {
    return `error: the API server does not accept your credentials (${error.message}); log in again\n`
  }
  if (isTimeout(error)) {
    return 'error: no answer in time; allow more with --timeout\n'
  }
  return `error: ${messageOf(error)}\n`
}

/** Whether a time limit ended it; what was interrupted may have wrapped that. */
export function isTimeout(error: unknown): boolean {
  return error instanceof Error && (error.name === 'TimeoutError' || isTimeout(error.cause))
}
