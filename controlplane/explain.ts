/** The seam for `POST /v1/explain`: what would happen to a connection, by the desired state. */
import type { DesiredState } from './desired.ts'

/** A function that answers a request's JSON body with JSON; a refusal is an HttpProblem. */
export type Explain = (desired: DesiredState, request: unknown) => unknown
