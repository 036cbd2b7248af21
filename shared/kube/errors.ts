/** What can go wrong between a program and the Kubernetes API. */

/** The part of `metav1.Status` that explains a refusal. */
export interface KubeStatus {
  readonly reason?: string
  readonly message?: string
  readonly code?: number
  readonly details?: unknown
}

/** A request that the API server answered with an error; `status` is the HTTP status. */
export class KubeError extends Error {
  readonly status: number
  /** `NotFound`, `AlreadyExists`, `Conflict`, `Forbidden`, `Expired` …, or '' when the server gave none. */
  readonly reason: string
  /** The permission that the request takes, such as `list pods in namespace shop`. */
  readonly needs: string
  /** Seconds after which the server asked to be tried again; 0 = it did not say. */
  readonly retryAfterSeconds: number

  constructor(status: number, answer: KubeStatus, needs: string, retryAfterSeconds = 0) {
    super(answer.message ?? `the API server answered ${status}`)
    this.name = 'KubeError'
    this.status = status
    this.reason = answer.reason ?? ''
    this.needs = needs
    this.retryAfterSeconds = retryAfterSeconds
  }
}

/** The API server could not be reached, or the connection broke before it answered. */
export class KubeUnreachableError extends Error {
  readonly server: string

  constructor(server: string, message: string, options?: { cause?: unknown }) {
    super(message, options)
    this.name = 'KubeUnreachableError'
    this.server = server
  }
}

/** A kubeconfig, or the environment of a pod, that does not say how to reach a cluster. */
export class KubeConfigError extends Error {
  constructor(message: string, options?: { cause?: unknown }) {
    super(message, options)
    this.name = 'KubeConfigError'
  }
}

export function isNotFound(error: unknown): error is KubeError {
  return error instanceof KubeError && error.status === 404
}

/** Another writer was faster, or the object exists already. */
export function isConflict(error: unknown): error is KubeError {
  return error instanceof KubeError && error.status === 409
}

/** The version asked for is no longer kept; list again. */
export function isExpired(error: unknown): error is KubeError {
  return error instanceof KubeError && error.status === 410
}
