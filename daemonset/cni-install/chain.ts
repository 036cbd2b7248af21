/**
 * Where the CNI plug-in stands in a node's network configuration: the files that are there in, the files to be
 * written out. Nothing here touches a disk.
 *
 * The runtime takes the first valid file in lexical order and calls its plug-ins one after the other; ours has to be
 * the last, so that the pod's network is complete. A `.conf` holds one plug-in and becomes a `.conflist`.
 *
 * Source: CNI specification 1.1.0, section 1; the choice of the file as in containerd and in Istio's installer.
 */
import { isDeepStrictEqual } from 'node:util'
import { messageOf } from '../../shared/runtime/errors.ts'

export const pluginType = 'istio-cni'

/** Texts of the files of a folder by their names. */
export type ConfigurationFiles = ReadonlyMap<string, string>

export interface ChainWish {
  /** The file of the primary network plug-in; undefined takes the first valid one. */
  readonly confName: string | undefined
  /**
   * `shared`: our entry goes into the primary's file. `own`: into a copy under `ownName`, which outlives the primary's
   * own changes and a reboot.
   */
  readonly place: 'shared' | 'own'
  /** Name of the copy; it has to sort before the primary's. */
  readonly ownName: string
  /** Our plug-in's configuration. */
  readonly entry: PluginEntry
  /** The file that held our entry when it was last complete. */
  readonly last: string | undefined
}

export interface PluginEntry {
  readonly type: string
  readonly [field: string]: unknown
}

export type Change =
  /** `like` is the file whose mode the new one gets; it may be itself. */
  | { readonly kind: 'write'; readonly file: string; readonly text: string; readonly like: string }
  | { readonly kind: 'remove'; readonly file: string }

export type ChainPlan =
  | { readonly kind: 'in place'; readonly file: string }
  | {
      readonly kind: 'change'
      readonly file: string
      readonly why: string
      readonly changes: readonly Change[]
    }
  /** Nothing can be done; `why` says what is missing. */
  | { readonly kind: 'wait'; readonly why: string }

interface Configuration {
  readonly file: string
  readonly text: string
  readonly list: ConfigurationList
}

interface ConfigurationList {
  readonly plugins: readonly PluginEntry[]
  readonly [field: string]: unknown
}

/** In our entry of a list that was made of a `.conf`: its name, under which our removal brings it back. */
const madeFrom = 'underpass_made_from'

export function planChain(files: ConfigurationFiles, wish: ChainWish): ChainPlan {
  const primary = findPrimary(files, wish)
  return wish.place === 'own' ? planOwn(files, primary, wish) : planShared(files, primary, wish)
}

/** What gives the file back to the primary; empty when nothing in it is ours. */
export function planRemoval(
  { file, text }: { readonly file: string; readonly text: string },
  { ownName }: Pick<ChainWish, 'ownName'>
): readonly Change[] {
  if (file === ownName) return [{ kind: 'remove', file }]
  const found = readConfiguration(file, text)
  if (typeof found === 'string' || !found.list.plugins.some(isOurs)) return []
  const rest = found.list.plugins.filter(plugin => !isOurs(plugin))
  const [first] = rest
  if (first === undefined) return [{ kind: 'remove', file }]
  const before = madeOf(found.list)
  if (rest.length === 1 && before !== undefined) {
    return [
      { kind: 'write', file: before, text: format(first, text), like: file },
      { kind: 'remove', file }
    ]
  }
  return [{ kind: 'write', file, text: format({ ...found.list, plugins: rest }, text), like: file }]
}

/** Names that a runtime would read, in its order. */
export function isConfigurationName(name: string): boolean {
  return /^[^.].*\.(?:conf|conflist|json)$/.test(name)
}

function planShared(files: ConfigurationFiles, primary: Configuration | string, wish: ChainWish): ChainPlan {
  if (typeof primary === 'string') return { kind: 'wait', why: primary }
  const file = listName(primary.file)
  const list = withEntry(primary, wish.entry)
  const isNew = file !== primary.file
  const why = isNew ? `${primary.file} has to become a list` : problemOf(primary.list, list)
  const changes: Change[] = []
  if (why !== undefined) {
    changes.push({ kind: 'write', file, text: format(list, primary.text), like: primary.file })
  }
  if (isNew) changes.push({ kind: 'remove', file: primary.file })
  if (files.has(wish.ownName)) changes.push({ kind: 'remove', file: wish.ownName })
  if (changes.length === 0) return { kind: 'in place', file }
  return { kind: 'change', file, why: why ?? `${wish.ownName} is not wanted any more`, changes }
}

function planOwn(files: ConfigurationFiles, primary: Configuration | string, wish: ChainWish): ChainPlan {
  const { ownName } = wish
  const ownText = files.get(ownName)
  const own = ownText === undefined ? undefined : readConfiguration(ownName, ownText)
  if (typeof primary === 'string') {
    // After a reboot the copy is there before the primary's file: pods wait for the agent then, as they shall.
    if (own === undefined || typeof own === 'string') return { kind: 'wait', why: primary }
    return planShared(new Map([[ownName, own.text]]), own, { ...wish, ownName: '' })
  }
  if (primary.file < ownName) {
    const why = `the runtime takes ${primary.file} before ${ownName}: set ISTIO_OWNED_CNI_CONFIG_FILENAME to a name that sorts first`
    return { kind: 'wait', why }
  }
  const list = withEntry({ ...primary, list: withoutOurs(primary.list) }, wish.entry)
  const why =
    own === undefined || typeof own === 'string' ? `${ownName} is missing` : problemOf(own.list, list)
  const changes: Change[] = [...planRemoval(primary, wish)]
  if (why !== undefined) {
    changes.unshift({ kind: 'write', file: ownName, text: format(list, primary.text), like: primary.file })
  }
  if (changes.length === 0) return { kind: 'in place', file: ownName }
  return { kind: 'change', file: ownName, why: why ?? `${primary.file} still has our entry`, changes }
}

/** The configuration that the runtime would take, or why there is none. */
function findPrimary(
  files: ConfigurationFiles,
  { confName, ownName, last }: ChainWish
): Configuration | string {
  if (confName !== undefined) {
    const name = [confName, listName(confName)].find(name => files.has(name))
    if (name === undefined) return `${confName} is not there yet`
    return readConfiguration(name, files.get(name) ?? '')
  }
  const broken: string[] = []
  for (const name of [...files.keys()].filter(isConfigurationName).toSorted(byBytes)) {
    if (name === ownName) continue
    const found = readConfiguration(name, files.get(name) ?? '')
    if (typeof found !== 'string') return found
    // Whoever is just writing this file must not make us chain behind the next one.
    if (name === last) return found
    broken.push(found)
  }
  const why = broken.length === 0 ? '' : ` (${broken.join('; ')})`
  return `there is no valid network configuration${why}; is a network plug-in installed on this node?`
}

/** A configuration as a list, or what is wrong with it. */
function readConfiguration(file: string, text: string): Configuration | string {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    return `${file} is not JSON: ${messageOf(error)}`
  }
  if (!isObject(value)) return `${file}: expected an object`
  if (typeof value['name'] !== 'string' || value['name'] === '') return `${file} has no name`
  const plugins = file.endsWith('.conflist') ? value['plugins'] : [value]
  if (!Array.isArray(plugins) || !plugins.every(isPlugin)) return `${file}: every plug-in needs a type`
  const others = plugins.filter(plugin => !isOurs(plugin))
  if (others.every(({ type }) => type === 'loopback'))
    return `${file} has no plug-in that gives pods a network`
  if (file.endsWith('.conflist')) return { file, text, list: { ...value, plugins } }
  const { name, cniVersion } = value
  return { file, text, list: { ...(cniVersion === undefined ? {} : { cniVersion }), name, plugins } }
}

/** Our entry last and once; everything else as it is. */
function withEntry({ file, list }: Configuration, entry: PluginEntry): ConfigurationList {
  const before = listName(file) === file ? madeOf(list) : file
  const others = withoutOurs(list)
  const ours = before === undefined ? entry : { ...entry, [madeFrom]: before }
  return { ...others, plugins: [...others.plugins, ours] }
}

/** The file that a list was made of; undefined when it was a list before. */
function madeOf({ plugins }: ConfigurationList): string | undefined {
  const name = plugins.find(plugin => isOurs(plugin) && plugin[madeFrom] !== undefined)?.[madeFrom]
  return typeof name === 'string' && isConfigurationName(name) && !name.includes('/') ? name : undefined
}

function withoutOurs(list: ConfigurationList): ConfigurationList {
  return { ...list, plugins: list.plugins.filter(plugin => !isOurs(plugin)) }
}

/** What somebody has to know who finds this in a log; undefined when all is as it shall be. */
function problemOf(actual: ConfigurationList, desired: ConfigurationList): string | undefined {
  if (isDeepStrictEqual(actual, desired)) return undefined
  const ours = actual.plugins.filter(isOurs)
  if (ours.length === 0) return 'our entry is missing'
  if (ours.length > 1) return `our entry is there ${ours.length} times`
  if (!isOurs(actual.plugins.at(-1) ?? { type: '' })) return 'our entry is not the last'
  if (isDeepStrictEqual(withoutOurs(actual), withoutOurs(desired))) return 'our entry is another one'
  return "the primary's configuration has changed"
}

function isOurs({ type }: PluginEntry): boolean {
  return type === pluginType
}

function isPlugin(value: unknown): value is PluginEntry {
  return isObject(value) && typeof value['type'] === 'string' && value['type'] !== ''
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function listName(file: string): string {
  return file.endsWith('.conflist') ? file : file.replace(/\.(?:conf|json)$/, '.conflist')
}

/** As Go sorts: by code units, whatever the language of the machine. */
function byBytes(a: string, b: string): number {
  return a < b ? -1 : 1
}

/** With the indentation of the text that it replaces. */
function format(value: unknown, like: string): string {
  const indent = /^[[{]\r?\n([ \t]+)/.exec(like)?.[1]
  return `${JSON.stringify(value, undefined, indent)}\n`
}
