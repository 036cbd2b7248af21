/** What nodes say of themselves that keeps the mesh from working on them. */
import type { Node } from '../../shared/kube/core-api.ts'
import type { KubeObject } from '../../shared/kube/object.ts'
import { isBefore } from '../install/definitions.ts'
import { finding, type Finding } from './findings.ts'

export interface Lease extends KubeObject {
  readonly spec?: { readonly renewTime?: string }
}

const oldestKernel = '5.10'
const testedRuntimes = /^(containerd|cri-o):/

export function findUnfitNodes(nodes: readonly Node[]): readonly Finding[] {
  return nodes.flatMap(({ metadata, status }) => {
    const object = `node ${metadata.name}`
    const info = status?.nodeInfo ?? {}
    const system = info['operatingSystem'] ?? metadata.labels?.['kubernetes.io/os'] ?? 'linux'
    if (system !== 'linux') return [finding('UP0006', object, `runs ${system}`)]
    const found: Finding[] = []
    const { kernelVersion: kernel = '', containerRuntimeVersion: runtime = '' } = info
    if (kernel !== '' && isBefore(kernel, oldestKernel))
      found.push(finding('UP0005', object, `kernel ${kernel}`))
    if (runtime !== '' && !testedRuntimes.test(runtime))
      found.push(finding('UP0023', object, `runs ${runtime}`))
    return found
  })
}

/** A node renews its Lease every ten seconds; more than this is no delay. */
const lateMs = 60_000
/** What clocks under NTP never differ by. */
const earlyMs = 5_000

/** Compares when nodes renewed their Lease, by their clock, with now, by ours. Nodes that are not ready are left out. */
export function findClockSkew(
  leases: readonly Lease[],
  nodes: readonly Node[],
  now: number
): readonly Finding[] {
  const ready = new Set(
    nodes
      .filter(({ status }) =>
        status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True')
      )
      .map(({ metadata }) => metadata.name)
  )
  return leases.flatMap(({ metadata, spec }) => {
    const renewed = Date.parse(spec?.renewTime ?? '')
    if (Number.isNaN(renewed) || !ready.has(metadata.name)) return []
    const age = now - renewed
    if (age <= lateMs && age >= -earlyMs) return []
    const seconds = Math.round(Math.abs(age) / 1000)
    return [finding('UP0017', `node ${metadata.name}`, `${seconds} s ${age > 0 ? 'behind' : 'ahead'}`)]
  })
}
