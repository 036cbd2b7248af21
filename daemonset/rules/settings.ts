/**
 * Kernel settings of a pod that make capture better but are not needed for it. What the kernel lacks or refuses is left
 * out of what is wanted, and said once by its name.
 */
import { accessSync, constants, readFileSync, writeFileSync } from 'node:fs'
import { inNetns } from '../../shared/net/netns.ts'
import type { RuleSet } from './desired.ts'

/**
 * Both show the settings of the network namespace that the calling thread is in. Containers have the first one
 * read-only, so the DaemonSet mounts the machine's as the second.
 */
const folders = ['/proc/sys/net', '/host/proc/sys/net'] as const

interface Setting {
  /** Below /proc/sys/net. */
  readonly file: string
  readonly value: string
  /** What a namespace, or an interface in it, has of itself. */
  readonly original: () => string
}

/** Writes what differs; returns the names of settings that cannot be written here. */
export function applySettings(netns: number, rules: RuleSet): readonly string[] {
  return inNetns(netns, () =>
    settingsOf(rules.looseInterfaces)
      .filter(({ file, value }) => !write(file, value))
      .map(({ file }) => file)
  )
}

/** Lines of what is wanted and what is there, of those settings that can be written here. */
export function readSettings(
  netns: number,
  rules: RuleSet
): { readonly desired: readonly string[]; readonly actual: readonly string[] } {
  return inNetns(netns, () => {
    const settings = settingsOf(rules.looseInterfaces).flatMap(({ file, value }) => {
      const actual = read(file)
      if (actual === undefined || (actual !== value && !writable(file))) return []
      return [{ desired: line(file, value), actual: line(file, actual) }]
    })
    return { desired: settings.map(({ desired }) => desired), actual: settings.map(({ actual }) => actual) }
  })
}

/** Lines of the settings that have our value and not the one of the kernel. */
export function changedSettings(netns: number, interfaces: readonly string[]): readonly string[] {
  return inNetns(netns, () =>
    settingsOf(interfaces)
      .filter(({ file, value, original }) => read(file) === value && original() !== value)
      .map(({ file, value }) => line(file, value))
  )
}

/** Gives the settings back the values that the kernel starts with. `interfaces`: those that our rules name. */
export function restoreSettings(netns: number, interfaces: readonly string[]): void {
  inNetns(netns, () => {
    for (const { file, value, original } of settingsOf(interfaces)) {
      if (read(file) === value) write(file, original())
    }
  })
}

function settingsOf(looseInterfaces: readonly string[]): readonly Setting[] {
  return [
    // Connections that wait in the backlog of a closing listener move to its SO_REUSEPORT siblings (Linux 5.14).
    { file: 'ipv4/tcp_migrate_req', value: '1', original: () => '0' },
    ...looseInterfaces.map(device => ({
      file: `ipv4/conf/${device}/rp_filter`,
      value: '0',
      original: () => read('ipv4/conf/default/rp_filter') ?? '0'
    }))
  ]
}

function line(file: string, value: string): string {
  return `setting net/${file} = ${value}`
}

function write(file: string, value: string): boolean {
  if (read(file) === value) return true
  return folders.some(folder => {
    try {
      writeFileSync(`${folder}/${file}`, value)
      return true
    } catch {
      return false // reported by name to the caller, who logs it
    }
  })
}

function read(file: string): string | undefined {
  try {
    return readFileSync(`${folders[0]}/${file}`, 'utf8').trim()
  } catch {
    return undefined // an older kernel, or an interface that is gone
  }
}

function writable(file: string): boolean {
  return folders.some(folder => {
    try {
      accessSync(`${folder}/${file}`, constants.W_OK)
      return true
    } catch {
      return false // read-only, or not mounted
    }
  })
}
