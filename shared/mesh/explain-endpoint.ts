/** `POST /v1/explain`, the same on the control plane and on every agent. */
import { HttpProblem, jsonAnswer, type Route } from '../runtime/admin-http.ts'
import { explainPath, type ExplainRequest, type ExplainResult, type ExplainSettings } from './explain.ts'
import type { MeshView } from './view.ts'

export interface ExplainAnswer {
  readonly apiVersion: 'underpass.dev/v1'
  /** Whose state it is: `desired`, or the name of the node that holds it. */
  readonly state: string
  readonly result: ExplainResult
}

/** `view` is asked once a request; `state` names whose it is. */
export function explainEndpoint(view: () => MeshView, state: string, settings: ExplainSettings): Route {
  return {
    method: 'POST',
    path: '/v1/explain',
    handle: async request => {
      const asked = readExplainRequest(await request.json())
      const result = explainPath(view(), asked, settings)
      return jsonAnswer({ apiVersion: 'underpass.dev/v1', state, result } satisfies ExplainAnswer)
    }
  }
}

/** Throws an {@link HttpProblem} 400 that names the field. */
export function readExplainRequest(body: unknown): ExplainRequest {
  if (typeof body !== 'object' || body === null) {
    throw new HttpProblem(400, 'expected a JSON object with from, to and namespace')
  }
  const fields = body as Readonly<Record<string, unknown>>
  const text = (name: string, fallback?: string): string => {
    const value = fields[name] ?? fallback
    if (typeof value === 'string' && value !== '' && value.length <= 512) return value
    throw new HttpProblem(400, `${name}: expected a text of 1 to 512 characters`)
  }
  return { from: text('from'), to: text('to'), namespace: text('namespace', 'default') }
}
