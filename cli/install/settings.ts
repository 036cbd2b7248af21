/**
 * What `--set` and `--values` of `install` may change: a small list, checked before anything is asked of the
 * cluster. Whoever needs more uses the Helm chart.
 */
import { UsageError } from '../command.ts'
import { partOf, type Manifest, type Part } from './manifest.ts'

export type Settings = Readonly<Record<string, string>>

interface Setting {
  readonly name: string
  readonly help: string
  /** What a value shall be, and whether it is. */
  readonly expected: string
  readonly accepts: (value: string) => boolean
  readonly change: (workload: Workload, value: string) => void
}

/** A Deployment or DaemonSet of the manifest, in a copy that may be changed. */
interface Workload {
  readonly part: Part | 'base'
  readonly kind: string
  readonly spec: WorkloadSpec
}

interface WorkloadSpec {
  replicas?: number
  readonly template: {
    readonly spec: {
      readonly containers: WorkloadContainer[]
      imagePullSecrets?: { readonly name: string }[]
      readonly volumes?: readonly { readonly name: string; readonly hostPath?: { path: string } }[]
    }
  }
}

interface WorkloadContainer {
  image: string
  imagePullPolicy?: string
  env?: { readonly name: string; value?: string }[]
}

const word = /^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/i
const levels = /^[\w:.-]+(=\w+)?(,[\w:.-]+(=\w+)?)*$/
const hostFolder = { expected: 'an absolute path on the nodes', accepts: matches(/^\/\S*$/) }
const truth = choice('true', 'false')

export const settings: readonly Setting[] = [
  {
    name: 'image',
    help: 'image of all programs',
    expected: 'a reference such as registry.example.com/underpass:0.1.0',
    accepts: matches(/^[a-z0-9]\S*$/i),
    change: ({ spec }, value) => {
      for (const container of spec.template.spec.containers) container.image = value
    }
  },
  {
    name: 'imagePullPolicy',
    help: 'when nodes pull the image',
    ...choice('Always', 'IfNotPresent', 'Never'),
    change: ({ spec }, value) => {
      for (const container of spec.template.spec.containers) container.imagePullPolicy = value
    }
  },
  {
    name: 'imagePullSecret',
    help: "Secret in the mesh's namespace with the registry's credentials",
    expected: 'the name of a Secret',
    accepts: matches(word),
    change: ({ spec }, value) => {
      spec.template.spec.imagePullSecrets = [{ name: value }]
    }
  },
  {
    name: 'clusterId',
    help: 'name of this cluster',
    expected: 'letters, digits, dots and dashes',
    accepts: matches(word),
    change: variables({ 'control-plane': 'CLUSTER_ID', ztunnel: 'ISTIO_META_CLUSTER_ID' })
  },
  {
    name: 'trustDomain',
    help: 'trust domain of all identities; cannot be changed while the mesh is in use',
    expected: 'a DNS name',
    accepts: matches(word),
    change: variables({ 'control-plane': 'TRUST_DOMAIN', ztunnel: 'TRUST_DOMAIN' })
  },
  {
    name: 'logLevel',
    help: 'log level of all programs',
    expected: 'levels such as info or xds=debug,info',
    accepts: matches(levels),
    change: variables({ 'control-plane': 'UNDERPASS_LOG', 'node-agent': 'LOG_LEVEL', ztunnel: 'RUST_LOG' })
  },
  {
    name: 'captureMode',
    help: "how pods' traffic is diverted",
    ...choice('auto', 'tproxy', 'redirect'),
    change: variables({ 'node-agent': 'UNDERPASS_CAPTURE_MODE' })
  },
  {
    name: 'dnsCapture',
    help: "whether pods' DNS questions are answered by the mesh",
    ...truth,
    change: variables({ 'node-agent': 'AMBIENT_DNS_CAPTURE', ztunnel: 'ISTIO_META_DNS_CAPTURE' })
  },
  {
    name: 'cniBinDir',
    help: 'where the nodes keep CNI plug-ins',
    ...hostFolder,
    change: hostPath('cni-bin')
  },
  {
    name: 'cniConfDir',
    help: 'where the nodes keep the CNI configuration',
    ...hostFolder,
    change: hostPath('cni-net')
  },
  {
    name: 'replicas',
    help: 'replicas of the control plane',
    expected: 'a number from 1 to 9',
    accepts: matches(/^[1-9]$/),
    change: ({ kind, part, spec }, value) => {
      if (kind === 'Deployment' && part === 'control-plane') spec.replicas = Number(value)
    }
  }
]

/** Settings of `NAME=VALUE` words. Throws a {@link UsageError} that names the setting and what it takes. */
export function parseSettings(words: readonly string[]): Settings {
  return Object.fromEntries(
    words.map(word => {
      const [, name, value] = /^([^=]+)=(.*)$/.exec(word) ?? []
      if (name === undefined || value === undefined) {
        throw new UsageError(`--set ${JSON.stringify(word)}: expected NAME=VALUE`)
      }
      return checked('--set', name, value)
    })
  )
}

/** Settings of a parsed YAML file: an object of names and values. */
export function readSettings(content: unknown, file: string): Settings {
  if (typeof content !== 'object' || content === null || Array.isArray(content)) {
    throw new UsageError(`${file}: expected an object of settings, such as "replicas: 2"`)
  }
  return Object.fromEntries(
    Object.entries(content).map(([name, value]) => {
      if (typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean') {
        return checked(file, name, String(value))
      }
      if (find(name) === undefined) throw unknown(file, name)
      throw new UsageError(`${file}: ${name}: expected a text, number or boolean`)
    })
  )
}

/** The manifest with the settings in it. */
export function withSettings(objects: readonly Manifest[], chosen: Settings): readonly Manifest[] {
  return objects.map(object => {
    if (object.kind !== 'Deployment' && object.kind !== 'DaemonSet') return object
    const copy = structuredClone(object)
    const workload = { part: partOf(copy), kind: copy.kind, spec: copy.spec as unknown as WorkloadSpec }
    for (const [name, value] of Object.entries(chosen)) find(name)?.change(workload, value)
    return copy
  })
}

/** For `--help`. */
export const settingsText = `Settings: ${settings
  .map(({ name, help, expected }) => `${name} (${help}: ${expected})`)
  .join('; ')}. Everything else can be set with the Helm chart.`

function checked(where: string, name: string, value: string): readonly [string, string] {
  const setting = find(name)
  if (setting === undefined) throw unknown(where, name)
  if (!setting.accepts(value)) {
    throw new UsageError(`${where} ${name}=${JSON.stringify(value)}: expected ${setting.expected}`)
  }
  return [name, value]
}

function unknown(where: string, name: string): UsageError {
  const known = settings.map(setting => setting.name).join(', ')
  return new UsageError(
    `${where}: no setting ${JSON.stringify(name)} (there are: ${known}); everything else can be set with the Helm chart`
  )
}

function find(name: string): Setting | undefined {
  return settings.find(setting => setting.name === name)
}

function matches(pattern: RegExp): (value: string) => boolean {
  return value => pattern.test(value)
}

function choice(...words: string[]): Pick<Setting, 'expected' | 'accepts'> {
  return { expected: words.join(', '), accepts: value => words.includes(value) }
}

/** Sets an environment variable, which may have another name in each part. */
function variables(names: Readonly<Partial<Record<Part, string>>>): Setting['change'] {
  return ({ part, spec }, value) => {
    const name = part === 'base' ? undefined : names[part]
    if (name === undefined) return
    for (const container of spec.template.spec.containers) {
      const others = (container.env ?? []).filter(variable => variable.name !== name)
      container.env = [...others, { name, value }]
    }
  }
}

function hostPath(volume: string): Setting['change'] {
  return ({ part, spec }, value) => {
    if (part !== 'node-agent') return
    for (const { name, hostPath } of spec.template.spec.volumes ?? []) {
      if (hostPath !== undefined && name.startsWith(volume)) hostPath.path = value
    }
  }
}
