/**
 * Where the API server is and who we are to it: from a kubeconfig (kubectl's rules: all files of KUBECONFIG
 * merged, the first that names a thing wins) or from what a pod finds in its own file system.
 */
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import path from 'node:path'
import { messageOf } from '../runtime/errors.ts'
import { KubeConfigError } from './errors.ts'
import { execToken, readExecCommand } from './exec-credential.ts'

export interface ClusterAccess {
  /** Base address without a slash at its end, such as `https://10.0.0.1:6443`. */
  readonly server: string
  /** Name of the kubeconfig's context, or `in-cluster`. */
  readonly context: string
  /** The namespace that is meant where none is given. */
  readonly namespace: string
  readonly tls: ClusterTls
  /** Value of the header `authorization`. `refresh` asks for a new one, after the server refused the last. */
  authorization(refresh: boolean): Promise<string | undefined>
}

export interface ClusterTls {
  /** PEM; undefined = the roots that Node knows. */
  readonly ca?: string
  readonly cert?: string
  readonly key?: string
  readonly servername?: string
  readonly rejectUnauthorized: boolean
}

export interface KubeConfigSource {
  /** Path of a kubeconfig, or several joined by `:`; usually the variable KUBECONFIG. */
  readonly kubeconfig?: string | undefined
  readonly context?: string | undefined
  /** The variables KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT; set in every pod. */
  readonly serviceHost?: string | undefined
  readonly servicePort?: string | undefined
  /** Where a pod finds its service account. */
  readonly serviceAccountFolder?: string | undefined
}

/** Picks what {@link loadKubeConfig} wants out of a program's environment. */
export function kubeConfigSource(env: Readonly<Record<string, string | undefined>>): KubeConfigSource {
  return {
    kubeconfig: env['KUBECONFIG'],
    serviceHost: env['KUBERNETES_SERVICE_HOST'],
    servicePort: env['KUBERNETES_SERVICE_PORT']
  }
}

/**
 * A kubeconfig that was named wins, then the pod's service account, then `~/.kube/config`.
 * Throws a {@link KubeConfigError} that names the file and the field.
 */
export async function loadKubeConfig(source: KubeConfigSource): Promise<ClusterAccess> {
  if (isSet(source.kubeconfig)) return fromKubeconfig(source.kubeconfig, source.context)
  if (isSet(source.serviceHost) && !isSet(source.context))
    return fromServiceAccount(source, source.serviceHost)
  const usual = path.join(homedir(), '.kube', 'config')
  if (existsSync(usual)) return fromKubeconfig(usual, source.context)
  throw new KubeConfigError(`no kubeconfig: KUBECONFIG is not set and there is no ${usual}`)
}

/** How long a service account's token is used before its file is read again; the kubelet renews it much earlier. */
const tokenAgeMs = 60_000

async function fromServiceAccount(source: KubeConfigSource, host: string): Promise<ClusterAccess> {
  const folder = source.serviceAccountFolder ?? '/var/run/secrets/kubernetes.io/serviceaccount'
  const tokenFile = path.join(folder, 'token')
  const ca = await readText(path.join(folder, 'ca.crt'), 'the cluster roots of the service account')
  await readText(tokenFile, 'the token of the service account')
  const namespace = await readText(path.join(folder, 'namespace'), '').catch(() => 'default') // older kubelets
  return {
    server: `https://${host.includes(':') ? `[${host}]` : host}:${source.servicePort ?? '443'}`,
    context: 'in-cluster',
    namespace: namespace.trim(),
    tls: { ca, rejectUnauthorized: true },
    authorization: tokenFromFile(tokenFile)
  }
}

function tokenFromFile(file: string): ClusterAccess['authorization'] {
  let last = { text: '', readAt: -Infinity }
  return async refresh => {
    if (refresh || performance.now() - last.readAt > tokenAgeMs) {
      last = { text: (await readText(file, 'the token')).trim(), readAt: performance.now() }
    }
    return `Bearer ${last.text}`
  }
}

interface Section {
  readonly [field: string]: unknown
}

/** One entry of the lists `clusters`, `users` and `contexts`, and the file that it stands in. */
interface Entry {
  readonly file: string
  readonly where: string
  readonly value: Section
}

async function fromKubeconfig(files: string, wanted: string | undefined): Promise<ClusterAccess> {
  const merged = await readKubeconfigs(files.split(path.delimiter).filter(Boolean))
  const name = isSet(wanted) ? wanted : merged.currentContext
  if (name === '') throw new KubeConfigError(`${files}: no current-context; choose one with --context`)
  const context = merged.contexts.get(name)
  if (context === undefined) {
    const known = [...merged.contexts.keys()].join(', ')
    throw new KubeConfigError(`${files}: no context ${JSON.stringify(name)} (there are: ${known || 'none'})`)
  }
  const cluster = lookUp(merged.clusters, text(context, 'cluster'), context, 'cluster')
  const userName = text(context, 'user')
  const user = userName === undefined ? undefined : lookUp(merged.users, userName, context, 'user')
  return {
    server: serverOf(cluster),
    context: name,
    namespace: text(context, 'namespace') ?? 'default',
    tls: await tlsOf(cluster, user),
    authorization: user === undefined ? async () => undefined : await authorizationOf(user)
  }
}

function serverOf(cluster: Entry): string {
  const server = text(cluster, 'server') ?? ''
  if (!URL.canParse(server) || !/^https?:/.test(server)) {
    throw new KubeConfigError(`${cluster.where}: server ${JSON.stringify(server)} is not an http(s) address`)
  }
  if (text(cluster, 'proxy-url') !== undefined) {
    throw new KubeConfigError(`${cluster.where}: proxy-url is not supported; use a direct address`)
  }
  return server.replace(/\/+$/, '')
}

async function tlsOf(cluster: Entry, user: Entry | undefined): Promise<ClusterTls> {
  const ca = await pem(cluster, 'certificate-authority')
  const cert = user === undefined ? undefined : await pem(user, 'client-certificate')
  const key = user === undefined ? undefined : await pem(user, 'client-key')
  if (user !== undefined && (cert === undefined) !== (key === undefined)) {
    const missing = cert === undefined ? 'client-certificate' : 'client-key'
    throw new KubeConfigError(`${user.where}: ${missing} is missing`)
  }
  const servername = text(cluster, 'tls-server-name')
  return {
    ...(ca === undefined ? {} : { ca }),
    ...(cert === undefined || key === undefined ? {} : { cert, key }),
    ...(servername === undefined ? {} : { servername }),
    rejectUnauthorized: cluster.value['insecure-skip-tls-verify'] !== true
  }
}

async function authorizationOf(user: Entry): Promise<ClusterAccess['authorization']> {
  const token = text(user, 'token')
  if (token !== undefined) return async () => `Bearer ${token}`
  const tokenFile = text(user, 'tokenFile')
  if (tokenFile !== undefined) return tokenFromFile(path.resolve(path.dirname(user.file), tokenFile))
  const name = text(user, 'username')
  if (name !== undefined) {
    const basic = Buffer.from(`${name}:${text(user, 'password') ?? ''}`).toString('base64')
    return async () => `Basic ${basic}`
  }
  if (user.value['auth-provider'] !== undefined) {
    throw new KubeConfigError(`${user.where}: auth-provider is no longer supported by Kubernetes; use exec`)
  }
  if (user.value['exec'] !== undefined)
    return execToken(readExecCommand(user.value['exec'], user.where), user.file)
  return async () => undefined
}

async function readKubeconfigs(files: readonly string[]): Promise<{
  currentContext: string
  clusters: Map<string, Entry>
  users: Map<string, Entry>
  contexts: Map<string, Entry>
}> {
  const merged = {
    currentContext: '',
    clusters: new Map<string, Entry>(),
    users: new Map<string, Entry>(),
    contexts: new Map<string, Entry>()
  }
  for (const file of files) {
    const config = await readKubeconfig(file)
    const current = config['current-context']
    if (merged.currentContext === '' && typeof current === 'string') merged.currentContext = current
    collect(config, 'clusters', 'cluster', file, merged.clusters)
    collect(config, 'users', 'user', file, merged.users)
    collect(config, 'contexts', 'context', file, merged.contexts)
  }
  return merged
}

async function readKubeconfig(file: string): Promise<Section> {
  const content = await readText(file, 'the kubeconfig')
  const { parseYaml, YamlError } = await import('./yaml.ts')
  try {
    const config = parseYaml(content, file)
    if (isSection(config)) return config
  } catch (error) {
    if (error instanceof YamlError) throw new KubeConfigError(error.message, { cause: error })
    throw error
  }
  throw new KubeConfigError(`${file}: not a kubeconfig`)
}

function collect(
  config: Section,
  list: string,
  member: string,
  file: string,
  into: Map<string, Entry>
): void {
  const entries: unknown = config[list] ?? []
  if (!Array.isArray(entries)) throw new KubeConfigError(`${file}: ${list} is not a list`)
  for (const entry of entries as readonly unknown[]) {
    const name = isSection(entry) ? entry['name'] : undefined
    if (!isSection(entry) || typeof name !== 'string') {
      throw new KubeConfigError(`${file}: an entry of ${list} has no name`)
    }
    const value = entry[member] ?? {}
    if (!isSection(value)) throw new KubeConfigError(`${file}: ${list}[${name}].${member} is not an object`)
    if (!into.has(name)) into.set(name, { file, where: `${file}: ${member} ${JSON.stringify(name)}`, value })
  }
}

function lookUp(entries: Map<string, Entry>, name: string | undefined, context: Entry, kind: string): Entry {
  const entry = name === undefined ? undefined : entries.get(name)
  if (entry === undefined)
    throw new KubeConfigError(`${context.where}: no ${kind} ${JSON.stringify(name ?? '')}`)
  return entry
}

/** The text in `<field>-data` (base64), or that of the file in `<field>`, relative to the kubeconfig. */
async function pem(entry: Entry, field: string): Promise<string | undefined> {
  const data = text(entry, `${field}-data`)
  if (data !== undefined) {
    const decoded = Buffer.from(data, 'base64').toString()
    if (decoded.includes('-----BEGIN')) return decoded
    throw new KubeConfigError(`${entry.where}: ${field}-data is not PEM in base64`)
  }
  const file = text(entry, field)
  if (file === undefined) return undefined
  return readText(path.resolve(path.dirname(entry.file), file), `${field} of ${entry.where}`)
}

function text(entry: Entry, field: string): string | undefined {
  const value = entry.value[field]
  if (value === undefined || value === null || value === '') return undefined
  if (typeof value !== 'string') throw new KubeConfigError(`${entry.where}: ${field} is not a text`)
  return value
}

async function readText(file: string, what: string): Promise<string> {
  try {
    return await readFile(file, 'utf8')
  } catch (error) {
    throw new KubeConfigError(`cannot read ${what}: ${messageOf(error)}`, { cause: error })
  }
}

function isSection(value: unknown): value is Section {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function isSet(value: string | undefined): value is string {
  return value !== undefined && value !== ''
}
