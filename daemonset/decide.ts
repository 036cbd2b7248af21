/**
 * Which pods belong to the mesh, and how their traffic is captured: labels and annotations in, a decision out.
 * Source: Istio's published labels and annotations, and the default of the chart value `ambient.enablementSelectors`.
 */
import { matches } from '../shared/kube/label-selector.ts'
import type { Pod } from '../shared/kube/core-api.ts'
import type { Labels, LabelSelector } from '../shared/kube/object.ts'
import type { RuleOptions } from './rules/desired.ts'

/** Matches when both selectors do; an absent one matches everything. */
export interface EnablementSelector {
  readonly podSelector?: LabelSelector
  readonly namespaceSelector?: LabelSelector
}

export const defaultSelectors: readonly EnablementSelector[] = [
  { podSelector: { matchLabels: { 'istio.io/dataplane-mode': 'ambient' } } },
  {
    podSelector: {
      matchExpressions: [{ key: 'istio.io/dataplane-mode', operator: 'NotIn', values: ['none'] }]
    },
    namespaceSelector: { matchLabels: { 'istio.io/dataplane-mode': 'ambient' } }
  }
]

export interface EnrolmentSettings {
  readonly selectors: readonly EnablementSelector[]
  readonly excludedNamespaces: ReadonlySet<string>
  /** Where ztunnel runs; its own pods are never enrolled. */
  readonly systemNamespace: string
  /** Whether DNS is captured where a pod does not say; needs a ztunnel that answers DNS. */
  readonly dnsCapture: boolean
}

/** The part of a pod's capture that its annotations decide. */
export type PodCapture = Pick<RuleOptions, 'inbound' | 'dns' | 'virtualInterfaces'>

export type SkipReason =
  | 'host network'
  | 'has a sidecar'
  | 'is a ztunnel'
  | 'has ended'
  | 'excluded namespace'
  | 'not selected'

export type Decision =
  | { readonly kind: 'enrol'; readonly capture: PodCapture }
  | { readonly kind: 'skip'; readonly reason: SkipReason }

/** `created` is true at CNI ADD, where the plug-in has already looked at the excluded namespaces. */
export function decideEnrolment(
  pod: Pod,
  namespaceLabels: Labels,
  settings: EnrolmentSettings,
  { created = false } = {}
): Decision {
  const { labels = {}, annotations = {}, namespace = '' } = pod.metadata
  const skip = (reason: SkipReason): Decision => ({ kind: 'skip', reason })
  if (pod.spec?.hostNetwork === true) return skip('host network')
  if ('sidecar.istio.io/status' in annotations) return skip('has a sidecar')
  if (labels['app'] === 'ztunnel' && namespace === settings.systemNamespace) return skip('is a ztunnel')
  if (hasEnded(pod)) return skip('has ended')
  if (!created && settings.excludedNamespaces.has(namespace)) return skip('excluded namespace')
  const selected = settings.selectors.some(
    ({ podSelector = {}, namespaceSelector = {} }) =>
      matches(podSelector, labels) && matches(namespaceSelector, namespaceLabels)
  )
  if (!selected) return skip('not selected')
  return { kind: 'enrol', capture: captureOf(annotations, settings) }
}

/** Succeeded or Failed: its containers will not run again. */
export function hasEnded(pod: Pod): boolean {
  return pod.status?.phase === 'Succeeded' || pod.status?.phase === 'Failed'
}

export function captureOf(
  annotations: Labels,
  { dnsCapture }: Pick<EnrolmentSettings, 'dnsCapture'>
): PodCapture {
  const interfaces = annotations['istio.io/reroute-virtual-interfaces'] ?? ''
  return {
    inbound: !(booleanOf(annotations['ambient.istio.io/bypass-inbound-capture']) ?? false),
    dns: booleanOf(annotations['ambient.istio.io/dns-capture']) ?? dnsCapture,
    virtualInterfaces: interfaces
      .split(',')
      .map(name => name.trim())
      .filter(isInterfaceName)
      .toSorted()
  }
}

/** IFNAMSIZ leaves 15 bytes; what could not be a name must not get into a rule. */
function isInterfaceName(name: string): boolean {
  return /^[A-Za-z0-9_.@-]{1,15}$/.test(name) && name !== 'lo' && !name.startsWith('-')
}

/** As Go's strconv.ParseBool, which the annotations are defined by; undefined for any other text. */
function booleanOf(text: string | undefined): boolean | undefined {
  if (text === undefined) return undefined
  if (/^(?:1|t|T|true|TRUE|True)$/.test(text)) return true
  if (/^(?:0|f|F|false|FALSE|False)$/.test(text)) return false
  return undefined
}

/**
 * Reads the chart's list of selectors from its YAML value; throws with the place of what is wrong. Selectors come
 * from an administrator, so an unknown operator must be seen and not silently match nothing.
 */
export function readSelectors(value: unknown): readonly EnablementSelector[] {
  if (!Array.isArray(value) || value.length === 0) throw new Error('expected a list of selectors')
  return value.map((entry: unknown, index) => {
    const { podSelector, namespaceSelector, ...others } = objectAt(entry, `[${index}]`)
    const [unknown] = Object.keys(others)
    if (unknown !== undefined) {
      throw new Error(`[${index}].${unknown}: only podSelector and namespaceSelector are known`)
    }
    return {
      ...(podSelector === undefined
        ? {}
        : { podSelector: readSelector(podSelector, `[${index}].podSelector`) }),
      ...(namespaceSelector === undefined
        ? {}
        : { namespaceSelector: readSelector(namespaceSelector, `[${index}].namespaceSelector`) })
    }
  })
}

function readSelector(value: unknown, at: string): LabelSelector {
  const { matchLabels = {}, matchExpressions = [] } = objectAt(value, at)
  const labels = objectAt(matchLabels, `${at}.matchLabels`)
  if (!Array.isArray(matchExpressions)) throw new Error(`${at}.matchExpressions: expected a list`)
  for (const [index, expression] of matchExpressions.entries()) {
    const where = `${at}.matchExpressions[${index}]`
    const { key, operator } = objectAt(expression, where)
    if (typeof key !== 'string') throw new Error(`${where}.key: expected a label's name`)
    if (!['In', 'NotIn', 'Exists', 'DoesNotExist'].includes(String(operator))) {
      throw new Error(`${where}.operator: expected In, NotIn, Exists or DoesNotExist`)
    }
  }
  return { matchLabels: labels as Labels, matchExpressions: matchExpressions as never }
}

function objectAt(value: unknown, at: string): Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new Error(`${at}: expected an object`)
  return value as Readonly<Record<string, unknown>>
}
