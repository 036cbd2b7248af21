/** The configuration of the node agent: environment variables as istio-cni has them, and our own UNDERPASS_ ones. */
import { ip, ipFamily, type Ip, parseIp } from '../shared/net/address.ts'
import { EnvReader, type Env, type EnvVariable } from '../shared/runtime/env.ts'
import { type LogFilter, parseLogFilter } from '../shared/telemetry/logger.ts'
import { pluginType } from './cni-install/chain.ts'
import type { CniInstall } from './cni-install/keep-installed.ts'
import type { EnrolmentSettings } from './decide.ts'
import type { NetnsPlaces } from './pod-netns.ts'
import type { MethodWish } from './probe-method.ts'

export interface Config {
  readonly nodeName: string
  readonly zdsSocket: string
  readonly cniSocket: string
  /** Where the CNI plug-in is to be kept; undefined leaves that to somebody else. */
  readonly cniInstall: CniInstall | undefined
  /** The agent's own DaemonSet, in the system namespace. */
  readonly daemonSet: string
  readonly wish: MethodWish
  readonly places: NetnsPlaces
  /** The namespace that gets the rules for probes; undefined for our own. */
  readonly hostNetns: string | undefined
  /** Without the selectors: those are YAML, whose reader is only loaded where they are set. */
  readonly enrolment: Omit<EnrolmentSettings, 'selectors'>
  readonly selectorsYaml: string | undefined
  /** False: no pod is enrolled, and those that are come out. */
  readonly ambient: boolean
  readonly probeAddresses: readonly Ip[]
  readonly leakGuard: boolean
  readonly verifyIntervalMs: number
  readonly ports: { readonly health: number; readonly metrics: number; readonly admin: number }
  readonly log: { readonly filter: LogFilter; readonly format: 'plain' | 'json' }
}

/** Throws a ConfigError that lists every problem. */
export function readConfig(env: Env): {
  readonly config: Config
  readonly variables: readonly EnvVariable[]
} {
  const read = new EnvReader(env)
  const nodeName = read.text('NODE_NAME', '', 'The node whose pods are enrolled; mandatory.')
  if (nodeName === '') read.problem('NODE_NAME is not set: give the pod its spec.nodeName')
  const runDir = read.text(
    'CNI_AGENT_RUN_DIR',
    '/var/run/istio-cni',
    'Folder of the socket for the CNI plug-in.'
  )
  const mode = read.choice(
    'UNDERPASS_CAPTURE_MODE',
    ['auto', 'tproxy', 'redirect'],
    'auto',
    'How traffic is diverted; auto tries them on this machine.'
  )
  const backend = read.choice(
    'UNDERPASS_CAPTURE_BACKEND',
    ['auto', 'nft', 'iptables'],
    'auto',
    'By which program rules are written; auto tries them on this machine.'
  )
  const excludedNamespaces = read
    .text('EXCLUDE_NAMESPACES', 'kube-system', 'Namespaces whose pods are never enrolled, joined by commas.')
    .split(',')
    .map(name => name.trim())
    .filter(Boolean)
  const systemNamespace = read.text('POD_NAMESPACE', 'istio-system', 'Where the agent and ztunnel run.')
  const config: Config = {
    nodeName,
    zdsSocket: read.text('ZDS_SOCKET', '/var/run/ztunnel/ztunnel.sock', 'Where ztunnels connect.'),
    cniSocket: `${runDir}/pluginevent.sock`,
    cniInstall: readCniInstall(read, { runDir, excludedNamespaces, systemNamespace }),
    daemonSet: read.text(
      'UNDERPASS_DAEMONSET',
      'istio-cni-node',
      "Name of the agent's own DaemonSet; when that is deleted, the CNI plug-in and all rules are removed."
    ),
    wish: { mode, backend },
    places: {
      netnsDir: read.text(
        'UNDERPASS_NETNS_DIR',
        '/var/run/netns',
        'Where runtimes keep network namespaces by name.'
      ),
      procDir: read.text('UNDERPASS_HOST_PROC', '/proc', "The machine's /proc.")
    },
    hostNetns: read.optional(
      'UNDERPASS_HOST_NETNS',
      "Path of the node's network namespace, where the agent does not run in it."
    ),
    enrolment: {
      excludedNamespaces: new Set(excludedNamespaces),
      systemNamespace,
      dnsCapture: read.flag(
        'AMBIENT_DNS_CAPTURE',
        false,
        'Capture DNS where a pod does not object; only with a ztunnel that answers DNS on port 15053.'
      )
    },
    ambient: read.flag('AMBIENT_ENABLED', true, 'Enrol pods; false takes all of them out.'),
    selectorsYaml: read.optional(
      'AMBIENT_ENABLEMENT_SELECTOR',
      'YAML list of {podSelector, namespaceSelector}; a pod that one of them matches is enrolled.'
    ),
    probeAddresses: [
      address(read, 'HOST_PROBE_SNAT_IP', '169.254.7.127', 4),
      address(read, 'HOST_PROBE_SNAT_IPV6', 'fd16:9254:7127:1337:ffff:ffff:ffff:ffff', 6)
    ],
    leakGuard: read.flag(
      'UNDERPASS_LEAK_GUARD',
      true,
      'Drop traffic that would get round ztunnel, for example from sockets bound to a device.'
    ),
    verifyIntervalMs: read.duration(
      'UNDERPASS_VERIFY_INTERVAL',
      '60s',
      'How often all rules are compared and repaired.'
    ),
    ports: {
      health: read.port('UNDERPASS_READY_PORT', 8000, 'Port of /healthz and /readyz.'),
      metrics: read.port('UNDERPASS_STATS_PORT', 15014, 'Port of /metrics.'),
      admin: read.port('UNDERPASS_ADMIN_PORT', 15016, 'Port of /v1/pods and /v1/rules, on loopback only.')
    },
    log: readLog(read)
  }
  read.finish()
  return { config, variables: read.variables }
}

interface EntryFacts {
  readonly runDir: string
  readonly excludedNamespaces: readonly string[]
  readonly systemNamespace: string
}

function readCniInstall(read: EnvReader, facts: EntryFacts): CniInstall | undefined {
  const wanted = read.flag(
    'UNDERPASS_CNI_INSTALL',
    false,
    'Put the CNI plug-in into place and keep it there, so that new pods are captured before they start.'
  )
  const sourceDir = read.text('UNDERPASS_CNI_SOURCE', '/app/cni', 'Folder of the CNI plug-in to install.')
  const binDir = read.text('CNI_BIN_DIR', '/host/opt/cni/bin', "The runtime's folder of CNI plug-ins.")
  const confDir = read.text(
    'CNI_CONF_DIR',
    '/host/etc/cni/net.d',
    "The runtime's folder of network configurations."
  )
  const confName = fileName(
    read,
    'CNI_CONF_NAME',
    read.text('CNI_CONF_NAME', '', "The primary network plug-in's file; the first valid one when empty.")
  )
  const chained = read.flag(
    'CHAINED_CNI_PLUGIN',
    true,
    'Behind the primary network plug-in; only true works.'
  )
  if (!chained) {
    read.problem(
      'CHAINED_CNI_PLUGIN=false: the plug-in has to follow the primary one, which gives a pod its addresses; ' +
        'leave it true, or set UNDERPASS_CNI_INSTALL=false and enrol pods once they run'
    )
  }
  const own = read.flag(
    'ISTIO_OWNED_CNI_CONFIG',
    false,
    "Leave the primary's file alone and use a copy of it, which also keeps pods waiting for the agent after a reboot."
  )
  const ownName = fileName(
    read,
    'ISTIO_OWNED_CNI_CONFIG_FILENAME',
    read.text(
      'ISTIO_OWNED_CNI_CONFIG_FILENAME',
      '02-istio-cni.conflist',
      "Name of that copy; has to sort before the primary's."
    )
  )
  if (!ownName.endsWith('.conflist')) {
    read.problem(`ISTIO_OWNED_CNI_CONFIG_FILENAME=${JSON.stringify(ownName)}: expected a name in .conflist`)
  }
  if (!wanted) return undefined
  return {
    sourceDir,
    binDir,
    confDir,
    chain: {
      confName: confName === '' ? undefined : confName,
      place: own ? 'own' : 'shared',
      ownName,
      entry: {
        type: pluginType,
        name: pluginType,
        ambient_enabled: true,
        cni_agent_run_dir: facts.runDir,
        exclude_namespaces: facts.excludedNamespaces,
        pod_namespace: facts.systemNamespace
      }
    }
  }
}

/** A name that leads out of its folder is none. */
function fileName(read: EnvReader, variable: string, name: string): string {
  if (name.includes('/')) read.problem(`${variable}=${JSON.stringify(name)}: expected a file's name, no path`)
  return name
}

function readLog(read: EnvReader): Config['log'] {
  const level = read.text('LOG_LEVEL', 'info', 'Log levels: level or target=level, joined by commas.')
  const filter = parseLogFilter(level)
  if (filter === undefined)
    read.problem(`LOG_LEVEL=${JSON.stringify(level)}: expected levels such as info,zds=debug`)
  const json = read.flag('LOG_AS_JSON', false, 'One JSON object a line instead of plain text.')
  return { filter: filter ?? { fallback: 'info', targets: new Map() }, format: json ? 'json' : 'plain' }
}

function address(read: EnvReader, name: string, fallback: string, family: 4 | 6): Ip {
  const text = read.text(name, fallback, `Source address that health probes get, IPv${family}.`)
  const parsed = parseIp(text)
  if (parsed !== undefined && ipFamily(parsed) === family) return parsed
  read.problem(`${name}=${JSON.stringify(text)}: expected an IPv${family} address`)
  return ip(fallback)
}
