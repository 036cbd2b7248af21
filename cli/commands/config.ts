/** `underpass config …`: what the agents hold. Columns and flags of `istioctl ztunnel-config`, on all nodes at once. */
import { certificateColumns, certificateRows, connectionColumns, connectionRows } from '../config/listings.ts'
import { policyColumns, serviceColumns, waypointNames, workloadColumns } from '../config/listings.ts'
import type { ConfigDump, DumpPolicy, DumpService, DumpWorkload } from '../config/dump.ts'
import { diff } from '../config/diff.ts'
import { joined, readDumps, type AgentDump, type Held } from '../config/sources.ts'
import type { CommandGroup, Invocation, LeafCommand, OptionSpec } from '../command.ts'
import { agentOptions, clusterOptions, meshOptions, outputOptions, watchOption } from '../options.ts'
import { outputFormat, printListing, printOne } from '../output.ts'
import { runLog, logOptions } from './log.ts'

const sourceOptions: readonly OptionSpec[] = [
  { flags: '-f, --from-file <file>', help: 'show a dump instead of asking agents; - reads standard input' },
  { flags: '--file <file>', help: 'as --from-file', hidden: true },
  { flags: '--proxy-admin-port <port>', help: 'admin port of the agents', hidden: true }
]

const common: readonly OptionSpec[] = [
  {
    flags: '-n, --namespace <name>',
    help: 'only what belongs to this namespace; with a pod as argument, the namespace of that pod'
  },
  { flags: '-A, --all-namespaces', help: 'what belongs to any namespace (the default)' },
  ...agentOptions,
  ...sourceOptions,
  ...outputOptions,
  watchOption,
  ...meshOptions,
  ...clusterOptions
]

const podArgument = {
  name: 'pod',
  help: 'pod whose agent is asked, or the agent itself: name[.namespace] (as --pod)'
} as const

const workloads: LeafCommand = {
  name: 'workloads',
  aliases: ['workload', 'w'],
  summary: 'pods and other workloads',
  arguments: [podArgument],
  options: [
    ...common,
    { flags: '--workload-namespace <name>', help: 'only workloads of this namespace' },
    { flags: '--workload-node <name>', help: 'only workloads on this node' },
    { flags: '--address <ip>', help: 'only workloads with this address' }
  ],
  examples: [
    { what: 'All workloads of a namespace, as all agents know them', command: 'config workloads -n shop' },
    { what: 'Who has this address?', command: 'config workloads --address 10.1.2.7' },
    { what: 'What one agent holds, as JSON', command: 'config workloads --node node-2 -o json' }
  ],
  run: async given => {
    const invocation = withPodArgument(given)
    const { dumps, code } = await readDumps(invocation)
    await printWorkloads(invocation, dumps)
    return code
  }
}

const services: LeafCommand = {
  name: 'services',
  aliases: ['service', 'svc', 's'],
  summary: 'services, their addresses, waypoints and endpoints',
  arguments: [podArgument],
  options: [...common, { flags: '--service-namespace <name>', help: 'only services of this namespace' }],
  examples: [
    { what: 'Services of a namespace', command: 'config services -n shop' },
    { what: 'With host names and ports', command: 'config services -o wide' }
  ],
  run: async given => {
    const invocation = withPodArgument(given)
    const { dumps, code } = await readDumps(invocation)
    await printServices(invocation, dumps)
    return code
  }
}

const policies: LeafCommand = {
  name: 'policies',
  aliases: ['policy', 'pol', 'p'],
  summary: 'authorization policies that agents enforce',
  arguments: [podArgument],
  options: [...common, { flags: '--policy-namespace <name>', help: 'only policies of this namespace' }],
  examples: [
    { what: 'All policies', command: 'config policies' },
    { what: 'The rules of the policies of one namespace', command: 'config policies -n shop -o yaml' }
  ],
  run: async given => {
    const invocation = withPodArgument(given)
    const { dumps, code } = await readDumps(invocation)
    await printPolicies(invocation, dumps)
    return code
  }
}

const certificates: LeafCommand = {
  name: 'certificates',
  aliases: ['certificate', 'certs', 'cert'],
  summary: "certificates of the nodes' workloads, with their chains",
  arguments: [podArgument],
  options: common,
  examples: [
    {
      what: 'Certificates that every agent holds, and on which node',
      command: 'config certificates -o wide'
    },
    { what: 'Those of one node', command: 'config certificates --node node-1' }
  ],
  run: async given => {
    const invocation = withPodArgument(given)
    const { dumps, code } = await readDumps(invocation)
    await printCertificates(invocation, dumps)
    return code
  }
}

const connections: LeafCommand = {
  name: 'connections',
  aliases: ['cons'],
  summary: 'connections that are open now',
  arguments: [podArgument],
  options: [
    ...common,
    { flags: '--workload-namespace <name>', help: 'only connections of workloads of this namespace' },
    { flags: '--direction <direction>', help: 'only one direction', choices: ['inbound', 'outbound'] },
    { flags: '--raw', help: 'addresses instead of names' }
  ],
  examples: [
    { what: 'Connections of the pods of a namespace', command: 'config connections -n shop' },
    {
      what: 'Who is connected to this node, by address',
      command: 'config connections --node node-2 --direction inbound --raw'
    }
  ],
  run: async given => {
    const invocation = withPodArgument(given)
    const { dumps, code } = await readDumps(invocation)
    await printConnections(invocation, dumps)
    return code
  }
}

const all: LeafCommand = {
  name: 'all',
  summary: 'all of the above',
  arguments: [podArgument],
  options: [...common, { flags: '--with-headers', help: 'a title above each table' }],
  examples: [
    { what: 'Everything that one agent holds', command: 'config all --node node-1 --with-headers' },
    { what: 'The dumps themselves, for a bug report', command: 'config all -o json > dump.json' }
  ],
  run: async given => {
    const invocation = withPodArgument(given)
    const { dumps, code } = await readDumps(invocation)
    const format = outputFormat(invocation)
    if (format === 'json' || format === 'yaml' || format === 'jsonl') {
      await printWhole(invocation, dumps)
      return code
    }
    const parts = [
      ['WORKLOAD', printWorkloads],
      ['SERVICE', printServices],
      ['POLICY', printPolicies],
      ['SECRET', printCertificates],
      ['CONNECTIONS', printConnections]
    ] as const
    for (const [title, print] of parts) {
      given.io.out(invocation.flag('with-headers') ? `\n------ ${title} INFO ------\n\n` : '\n')
      await print(invocation, dumps)
    }
    return code
  }
}

const log: LeafCommand = {
  name: 'log',
  aliases: ['o'],
  summary: 'log levels of the agents (as `underpass log`)',
  arguments: [podArgument],
  options: [...logOptions, ...sourceOptions.filter(({ flags }) => flags.includes('port'))],
  examples: [
    { what: 'Log accesses of one agent in detail', command: 'config log --node node-1 --level access=debug' }
  ],
  run: async given => runLog(withPodArgument(given))
}

export const command: CommandGroup = {
  name: 'config',
  aliases: ['zc', 'ztunnel-config'],
  summary: 'what the agents hold: workloads, services, policies, certificates, connections',
  description: `What the agents hold. All nodes are asked at once; things that all agents hold the same are shown once,
and a note says where they differ. Commands, columns and flags are those of "istioctl ztunnel-config".`,
  examples: [
    { what: 'Workloads as the agents know them', command: 'config workloads -n shop' },
    { what: 'The same from a saved dump', command: 'config workloads --from-file dump.json' }
  ],
  commands: [workloads, services, policies, certificates, connections, all, diff, log]
}

/** A pod given as an argument is one given with --pod. With it, -n says where that pod is, and filters nothing. */
function withPodArgument(invocation: Invocation): Invocation {
  const [pod] = invocation.args
  if (pod === undefined) return invocation
  return {
    ...invocation,
    list: name => (name === 'pod' ? [...invocation.list('pod'), pod] : invocation.list(name))
  }
}

function namespaceFilter(invocation: Invocation, own: string): string | undefined {
  const explicit = invocation.text(own)
  if (explicit !== undefined) return explicit
  return invocation.args.length > 0 || invocation.flag('all-namespaces')
    ? undefined
    : invocation.text('namespace')
}

async function printWorkloads(invocation: Invocation, dumps: readonly AgentDump[]): Promise<void> {
  const namespace = namespaceFilter(invocation, 'workload-namespace')?.toLowerCase()
  const node = invocation.text('workload-node')?.toLowerCase()
  const address = invocation.text('address')?.toLowerCase()
  const rows = heldBy(
    invocation,
    'workloads',
    dumps,
    ({ workloads }) => workloads,
    ({ uid }) => uid
  ).filter(
    ({ value }) =>
      (namespace === undefined || value.namespace.toLowerCase() === namespace) &&
      (node === undefined || value.node?.toLowerCase() === node) &&
      (address === undefined || value.workloadIps?.some(ip => ip.toLowerCase() === address) === true)
  )
  await printListing<Held<DumpWorkload>>(invocation, {
    kind: 'Workload',
    columns: workloadColumns(waypointNames(dumps.flatMap(({ dump }) => dump.services))),
    rows: rows.toSorted(
      (a, b) => compare(a.value, b.value) || (a.value.node ?? '').localeCompare(b.value.node ?? '')
    ),
    item: ({ value }) => value,
    name: ({ value }) => `workload/${value.namespace}/${value.name}`,
    nothing: 'no workloads'
  })
}

async function printServices(invocation: Invocation, dumps: readonly AgentDump[]): Promise<void> {
  const namespace = namespaceFilter(invocation, 'service-namespace')?.toLowerCase()
  const key = ({ namespace, hostname }: DumpService): string => `${namespace}/${hostname}`
  const rows = heldBy(invocation, 'services', dumps, ({ services }) => services, key).filter(
    ({ value }) => namespace === undefined || value.namespace.toLowerCase() === namespace
  )
  await printListing<Held<DumpService>>(invocation, {
    kind: 'Service',
    columns: serviceColumns(waypointNames(dumps.flatMap(({ dump }) => dump.services))),
    rows: rows.toSorted(
      (a, b) => compare(a.value, b.value) || a.value.hostname.localeCompare(b.value.hostname)
    ),
    item: ({ value }) => value,
    name: ({ value }) => `service/${value.namespace}/${value.hostname}`,
    nothing: 'no services'
  })
}

async function printPolicies(invocation: Invocation, dumps: readonly AgentDump[]): Promise<void> {
  const namespace = namespaceFilter(invocation, 'policy-namespace')?.toLowerCase()
  const key = ({ namespace, name }: DumpPolicy): string => `${namespace}/${name}`
  const rows = heldBy(invocation, 'policies', dumps, ({ policies }) => policies, key).filter(
    ({ value }) => namespace === undefined || value.namespace.toLowerCase() === namespace
  )
  await printListing<Held<DumpPolicy>>(invocation, {
    kind: 'Policy',
    columns: policyColumns(),
    rows: rows.toSorted((a, b) => compare(a.value, b.value)),
    item: ({ value }) => value,
    name: ({ value }) => `policy/${value.namespace}/${value.name}`,
    nothing: 'no policies: everything is allowed'
  })
}

async function printCertificates(invocation: Invocation, dumps: readonly AgentDump[]): Promise<void> {
  const now = invocation.io.now()
  const namespace = namespaceFilter(invocation, 'namespace')
  await printListing(invocation, {
    kind: 'Certificate',
    columns: certificateColumns,
    rows: dumps
      .flatMap(dump => certificateRows(dump, now))
      .filter(({ identity }) => namespace === undefined || identity.includes(`/ns/${namespace}/`)),
    name: ({ identity }) => `certificate/${identity}`,
    nothing: 'no certificates: no pod of the mesh has started on these nodes'
  })
}

async function printConnections(invocation: Invocation, dumps: readonly AgentDump[]): Promise<void> {
  const filter = {
    namespace: namespaceFilter(invocation, 'workload-namespace'),
    direction: invocation.text('direction'),
    raw: invocation.flag('raw')
  }
  await printListing(invocation, {
    kind: 'Connection',
    columns: connectionColumns,
    rows: dumps.flatMap(dump => connectionRows(dump, filter)),
    name: ({ workload, local, remote }) => `connection/${workload}/${local}/${remote}`,
    nothing: 'no open connections'
  })
}

async function printWhole(invocation: Invocation, dumps: readonly AgentDump[]): Promise<void> {
  const [only] = dumps
  if (only !== undefined && dumps.length === 1) {
    return printOne(invocation, 'ConfigDump', only.dump.whole, () => '')
  }
  await printListing<AgentDump>(invocation, {
    kind: 'ConfigDump',
    columns: [],
    rows: dumps,
    item: ({ node, pod, dump }) => ({ node, pod, dump: dump.whole }),
    name: ({ pod }) => `pod/${pod}`,
    nothing: ''
  })
}

/** Things of all agents, each once; says on stderr when the agents do not agree. */
function heldBy<T>(
  invocation: Invocation,
  what: string,
  dumps: readonly AgentDump[],
  pick: (dump: ConfigDump) => readonly T[],
  key: (value: T) => string
): readonly Held<T>[] {
  const { held, differing } = joined(dumps, pick, key)
  if (differing.length > 0) {
    const some = differing.slice(0, 3).join(', ') + (differing.length > 3 ? ', …' : '')
    invocation.io.err(
      `note: agents differ on ${differing.length} ${what} (${some}); -o wide shows how many hold each\n`
    )
  }
  return held
}

function compare(a: { namespace: string; name: string }, b: { namespace: string; name: string }): number {
  return a.namespace.localeCompare(b.namespace) || a.name.localeCompare(b.name)
}
