/**
 * Everything that the node agent put on a machine, found without any record of it: whoever was killed in the middle
 * of something is found out as well. What is listed can be removed.
 */
import { existsSync, readdirSync, rmdirSync, rmSync } from 'node:fs'
import path from 'node:path'
import type { KubeClient } from '../shared/kube/client.ts'
import { pods } from '../shared/kube/core-api.ts'
import { closeNetns, openNetns } from '../shared/net/netns.ts'
import { annotatePod } from './cluster.ts'
import { planRemoval } from './cni-install/chain.ts'
import { applyChanges, readConfigurations } from './cni-install/configuration-folder.ts'
import type { CniInstall } from './cni-install/keep-installed.ts'
import { copyProgram, hasProgram, programPath } from './cni-install/program.ts'
import type { Config } from './config.ts'
import { allNetns } from './pod-netns.ts'
import { findCapture, removeCapture } from './rules/capture.ts'
import { findProbeRules, removeProbeRules } from './rules/host-probes.ts'
import { redirectionAnnotation, redirectionOf } from './watch-pods.ts'

export interface Found {
  readonly kind:
    | 'capture'
    | 'probe rules'
    | 'network configuration'
    | 'CNI plug-in'
    | 'socket'
    | 'folder'
    | 'annotation'
  /** The path of a namespace, file, socket or folder, `node`, or a pod as `namespace/name`. */
  readonly where: string
  /** Rules, routes and settings, one a line. */
  readonly lines: readonly string[]
}

/**
 * What is on this machine; the cluster is not asked. One after the other, as a look at all pods of a large node takes
 * longer than the agent may have: what was found can be removed before the next is looked for.
 */
export async function* findOnMachine(config: Config): AsyncGenerator<Found> {
  // The plug-in first: pods that start while all else is removed shall neither wait for an agent nor get new rules.
  if (config.cniInstall !== undefined) yield* findInstalled(config.cniInstall)
  for (const netns of allNetns(config.places)) {
    try {
      const { rules, routes, settings } = await findCapture(netns.fd)
      const lines = [...rules, ...routes, ...settings]
      if (lines.length > 0) yield { kind: 'capture', where: netns.path, lines }
    } finally {
      closeNetns(netns.fd)
    }
  }
  const probeRules = await inHost(config, findProbeRules)
  if (probeRules.length > 0) yield { kind: 'probe rules', where: 'node', lines: probeRules }
  const sockets = [config.cniSocket, config.zdsSocket].filter(existsSync)
  for (const where of sockets) yield { kind: 'socket', where, lines: [] }
  for (const where of new Set([config.cniSocket, config.zdsSocket].map(file => path.dirname(file)))) {
    if (isEmptyBut(where, sockets)) yield { kind: 'folder', where, lines: [] }
  }
}

/** The entry before its program: a runtime that finds one without the other could start no pod. */
export function findInstalled(install: CniInstall): readonly Found[] {
  const { confDir, chain } = install
  const found: Found[] = []
  for (const [file, text] of existsSync(confDir) ? readConfigurations(confDir) : []) {
    const changes = planRemoval({ file, text }, chain)
    const lines = changes.map(change => `${change.kind} ${change.file}`)
    if (changes.length > 0)
      found.push({ kind: 'network configuration', where: path.join(confDir, file), lines })
  }
  if (hasProgram(install)) found.push({ kind: 'CNI plug-in', where: programPath(install), lines: [] })
  return found
}

/** What the API server has of the pods of this node. */
export async function findInCluster(
  config: Config,
  client: KubeClient,
  signal: AbortSignal
): Promise<readonly (Found & { readonly remove: () => Promise<void> })[]> {
  const list = await client.list(pods, { fieldSelector: `spec.nodeName=${config.nodeName}`, signal })
  return list.items.flatMap(pod => {
    const value = redirectionOf(pod)
    if (value === undefined) return []
    const { uid = '', namespace = '', name } = pod.metadata
    return {
      kind: 'annotation' as const,
      where: `${namespace}/${name}`,
      lines: [`${redirectionAnnotation}: ${value}`],
      remove: () => annotatePod(client, { uid, namespace, name }, undefined, signal)
    }
  })
}

/** Removes what {@link findOnMachine} found. What is gone already is no error. */
export async function removeFromMachine(config: Config, { kind, where }: Found): Promise<void> {
  switch (kind) {
    case 'capture': {
      const netns = openNetns(where)
      try {
        return await removeCapture(netns)
      } finally {
        closeNetns(netns)
      }
    }
    case 'probe rules':
      return inHost(config, host => removeProbeRules(host))
    case 'network configuration':
      if (config.cniInstall !== undefined) removeEntry(config.cniInstall, where)
      return
    case 'CNI plug-in':
      // A runtime may still hold a configuration that names it, and has to end pods that it started with it.
      if (config.cniInstall !== undefined) copyProgram(config.cniInstall, 'pass-through')
      return
    case 'socket':
      return rmSync(where, { force: true })
    case 'folder':
      return removeFolder(where)
    case 'annotation':
      throw new Error('an annotation is not on the machine')
    default:
      return kind satisfies never
  }
}

/** One line for a person. */
export function describeFound({ kind, where, lines }: Found): string {
  switch (kind) {
    case 'capture':
      return `${lines.length} rules, routes and settings in ${where}`
    case 'probe rules':
      return 'rules for probes on the node'
    case 'annotation':
      return `annotation of ${where}`
    default:
      return `${kind} ${where}`
  }
}

async function inHost<T>({ hostNetns }: Config, work: (netns: number | undefined) => Promise<T>): Promise<T> {
  const host = hostNetns === undefined ? undefined : openNetns(hostNetns)
  try {
    return await work(host)
  } finally {
    if (host !== undefined) closeNetns(host)
  }
}

function removeEntry({ confDir, chain }: CniInstall, where: string): void {
  const file = path.basename(where)
  const text = readConfigurations(confDir).get(file)
  if (text !== undefined) applyChanges(confDir, planRemoval({ file, text }, chain))
}

function isEmptyBut(folder: string, files: readonly string[]): boolean {
  if (!existsSync(folder)) return false
  return readdirSync(folder).every(name => files.includes(path.join(folder, name)))
}

/** A folder that is a mount of ours, or that somebody has used since, stays. */
function removeFolder(folder: string): void {
  try {
    rmdirSync(folder)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code !== 'EBUSY' && code !== 'ENOTEMPTY' && code !== 'ENOENT') throw error
  }
}
