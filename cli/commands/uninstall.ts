/** `underpass uninstall`: takes the mesh away so that pods go on working and nodes are as they were. */
import { daemonSets } from '../../shared/kube/apps-api.ts'
import type { KubeClient } from '../../shared/kube/client.ts'
import { configMaps, nodes, pods, secrets } from '../../shared/kube/core-api.ts'
import { isNotFound } from '../../shared/kube/errors.ts'
import { CommandFailure, type ExitCode, type Invocation, type LeafCommand } from '../command.ts'
import { meshNamespace, nameOf, partOf, readManifest, type Manifest } from '../install/manifest.ts'
import { cleanNode } from '../install/node-cleanup.ts'
import { readInstalled } from '../install/present.ts'
import { forgetInstallation } from '../install/record.ts'
import { remove } from '../install/remove.ts'
import { permitted } from '../install/steps.ts'
import { clusterOptions } from '../options.ts'
import { limit } from '../reach.ts'

export const command: LeafCommand = {
  name: 'uninstall',
  summary: 'take the mesh away; pods go on working',
  description: `First the node agent goes, then a pod on each node removes capture rules from all pods, the CNI entry and what else was
written there, and verifies that nothing is left; only then ztunnel and the control plane go. Pods are not restarted; their open
connections through the mesh end with ztunnel.

The definitions of Istio's and the Gateway API's kinds stay, with all objects of these kinds, and so do the labels of
namespaces and pods, ConfigMap istio-ca-root-cert in each namespace, and the namespace istio-system with the
certificate authority's Secret. --purge deletes that Secret and the ConfigMaps.`,
  options: [
    { flags: '--dry-run', help: 'say what would be removed; remove nothing' },
    {
      flags: '--purge',
      help: "also delete the certificate authority's Secret and roots: a new mesh gets a new root of trust"
    },
    { flags: '--force', help: 'go on when a node cannot be cleaned' },
    ...clusterOptions
  ],
  examples: [
    { what: 'What would be removed', command: 'uninstall --dry-run' },
    { what: 'Everything', command: 'uninstall' }
  ],
  run: invocation => permitted(invocation, () => run(invocation))
}

/** Where the certificate authority keeps its key and the roots. */
const authoritySecrets = ['istio-ca-secret']
/** In every namespace: what its pods trust. */
const rootsName = 'istio-ca-root-cert'
const agentName = { namespace: meshNamespace, name: 'istio-cni-node' }
const redirection = 'ambient.istio.io/redirection'

async function run(invocation: Invocation): Promise<ExitCode> {
  const { io } = invocation
  const client = await invocation.client()
  const installed = await readInstalled(client, readManifest(), () => limit(invocation))
  if (installed.length === 0) {
    throw new CommandFailure(
      'nothing was installed with underpass install in this cluster; what Helm installed goes with helm uninstall'
    )
  }
  await announce(invocation, client, installed)
  if (invocation.flag('dry-run')) {
    for (const object of installed) io.out(`would be removed: ${nameOf(object)}\n`)
    return 0
  }
  await removeNodeAgent(invocation, client, installed)
  await removeRest(invocation, client, installed)
  await forgetInstallation(client, limit(invocation))
  if (invocation.flag('purge')) await purge(invocation, client)
  io.out(
    invocation.flag('purge')
      ? 'uninstalled; definitions, labels and the namespace istio-system stay\n'
      : `uninstalled; definitions, labels, the namespace istio-system and the certificate authority's Secret stay\n`
  )
  return 0
}

async function announce(
  invocation: Invocation,
  client: KubeClient,
  installed: readonly Manifest[]
): Promise<void> {
  const { items } = await client.list(pods, { signal: limit(invocation) })
  const enrolled = items.filter(({ metadata }) => metadata.annotations?.[redirection] !== undefined)
  invocation.io.out(
    `${installed.length} objects; ${enrolled.length} pods leave the mesh and go on in the clear, their open connections through it end\n`
  )
}

async function removeNodeAgent(
  invocation: Invocation,
  client: KubeClient,
  installed: readonly Manifest[]
): Promise<void> {
  const { io } = invocation
  const agent = installed.find(
    ({ kind, metadata }) => kind === 'DaemonSet' && metadata.name === agentName.name
  )
  const template = await client.find(daemonSets, agentName, limit(invocation))
  if (agent === undefined || template === undefined) return
  const where = await nodesOf(invocation, client)
  await remove(client, agent, { propagation: 'Foreground', limit: () => limit(invocation) })
  io.out(`removed: ${nameOf(agent)}\n`)
  const cleaned = await Promise.all(
    where.map(node => cleanNode(client, template, node, () => limit(invocation)))
  )
  const problems = cleaned.flatMap(({ node, problem }) =>
    problem === undefined ? [] : [`${node}: ${problem}`]
  )
  for (const { node, lines, problem } of cleaned) {
    if (problem === undefined) io.out(`${node}: clean, ${lines.length} things removed\n`)
  }
  if (problems.length === 0) return
  if (!invocation.flag('force')) {
    throw new CommandFailure(
      `some nodes are not clean:\n${problems.join('\n')}\nztunnel stays, so that their pods work; try again, or go on with --force`
    )
  }
  for (const problem of problems) io.err(`warning: ${problem}\n`)
}

/** Ready nodes; one that is not cannot be cleaned, and is named. */
async function nodesOf(invocation: Invocation, client: KubeClient): Promise<readonly string[]> {
  const { items } = await client.list(nodes, { signal: limit(invocation) })
  const linux = items.filter(({ metadata }) => metadata.labels?.['kubernetes.io/os'] !== 'windows')
  const ready = linux.filter(({ status }) =>
    status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True')
  )
  for (const { metadata } of linux.filter(node => !ready.includes(node))) {
    invocation.io.err(
      `warning: node ${metadata.name} is not ready and is left as it is; a restart takes the rules off it\n`
    )
  }
  return ready.map(({ metadata }) => metadata.name)
}

/** Agents before what they depend on; accounts and roles last. */
async function removeRest(
  invocation: Invocation,
  client: KubeClient,
  installed: readonly Manifest[]
): Promise<void> {
  const rank = (object: Manifest): number => {
    const { kind } = object
    if (kind === 'ValidatingWebhookConfiguration') return 0 // before the one that answers it
    if (kind === 'DaemonSet') return 1
    if (kind === 'Deployment') return 2
    return partOf(object) === 'base' ? 4 : 3
  }
  for (const object of installed.toSorted((a, b) => rank(a) - rank(b))) {
    const propagation =
      object.kind === 'DaemonSet' || object.kind === 'Deployment' ? 'Foreground' : 'Background'
    const done = await remove(client, object, { propagation, limit: () => limit(invocation) })
    if (done) invocation.io.out(`removed: ${nameOf(object)}\n`)
  }
}

async function purge(invocation: Invocation, client: KubeClient): Promise<void> {
  for (const name of authoritySecrets) {
    try {
      await client.delete(secrets, { namespace: meshNamespace, name }, { signal: limit(invocation) })
      invocation.io.out(`removed: secret ${meshNamespace}/${name}\n`)
    } catch (error) {
      if (!isNotFound(error)) throw error
    }
  }
  const fieldSelector = `metadata.name=${rootsName}`
  const { items } = await client.list(configMaps, { fieldSelector, signal: limit(invocation) })
  for (const { metadata } of items) {
    const { namespace, name } = metadata
    await client.delete(configMaps, { namespace, name }, { signal: limit(invocation) })
  }
  invocation.io.out(`removed: the roots of trust of ${items.length} namespaces\n`)
}
