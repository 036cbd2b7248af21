/** SPIFFE identities of workloads in the form that Istio gives them. */

declare const brand: unique symbol

/** `spiffe://<trust domain>/ns/<namespace>/sa/<service account>` and nothing else. Only this file makes one. */
export type SpiffeId = string & { readonly [brand]: 'SpiffeId' }

export interface SpiffeParts {
  readonly trustDomain: string
  readonly namespace: string
  readonly serviceAccount: string
}

const form = /^spiffe:\/\/([^/]*)\/ns\/([^/]+)\/sa\/([^/]+)$/

export function parseSpiffeId(text: string): SpiffeId | undefined {
  return form.test(text) ? (text as SpiffeId) : undefined
}

export function spiffeId({ trustDomain, namespace, serviceAccount }: SpiffeParts): SpiffeId {
  return `spiffe://${trustDomain}/ns/${namespace}/sa/${serviceAccount}` as SpiffeId
}

export function spiffeParts(id: SpiffeId): SpiffeParts {
  const [, trustDomain = '', namespace = '', serviceAccount = ''] = form.exec(id) ?? []
  return { trustDomain, namespace, serviceAccount }
}

/** The identity as Istio's policies write principals: without the scheme. */
export function principalOf(id: SpiffeId): string {
  return id.slice('spiffe://'.length)
}
