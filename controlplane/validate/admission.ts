/** The answer to an AdmissionReview of the API server. Source: Kubernetes, admission.k8s.io/v1. */
import { FieldError, Fields } from '../read/fields.ts'
import { findingText } from './finding.ts'
import { validateObject } from './validate.ts'

export type Verdict = 'passed' | 'failed' | 'not-validated'

export interface Reviewed {
  readonly verdict: Verdict
  /** `group/resource`, for metrics. */
  readonly group: string
  readonly resource: string
  /** The whole AdmissionReview to send back. */
  readonly review: object
}

/** Longest warning that clients print whole, in characters. */
const longestWarning = 256

/** Undefined when it is no review that can be answered. */
export function reviewAdmission(body: unknown): Reviewed | undefined {
  try {
    const envelope = new Fields(body, '')
    const request = envelope.at('request')
    const uid = request.text('uid')
    if (uid === '' || envelope.text('kind') !== 'AdmissionReview') return undefined
    const resource = request.at('resource')
    const judged = judge(request)
    return {
      verdict: judged.verdict,
      group: resource.text('group'),
      resource: resource.text('resource'),
      review: {
        apiVersion: envelope.text('apiVersion', 'admission.k8s.io/v1'),
        kind: 'AdmissionReview',
        response: { uid, ...judged.response }
      }
    }
  } catch (error) {
    if (error instanceof FieldError) return undefined
    throw error
  }
}

function judge(request: Fields): { readonly verdict: Verdict; readonly response: object } {
  if (!['CREATE', 'UPDATE'].includes(request.text('operation'))) {
    return { verdict: 'not-validated', response: { allowed: true } }
  }
  const findings = validateObject(request.raw('object'))
  if (findings === undefined) return { verdict: 'not-validated', response: { allowed: true } }
  const errors = findings.filter(({ severity }) => severity === 'error').map(findingText)
  const warnings = findings
    .filter(({ severity }) => severity === 'warning')
    .map(finding => findingText(finding).slice(0, longestWarning))
  const told = warnings.length === 0 ? {} : { warnings }
  if (errors.length === 0) return { verdict: 'passed', response: { allowed: true, ...told } }
  const status = { code: 422, reason: 'Invalid', message: `configuration is invalid: ${errors.join('. ')}` }
  return { verdict: 'failed', response: { allowed: false, status, ...told } }
}
