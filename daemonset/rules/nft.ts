/**
 * Rules in nftables: one table `inet underpass`, replaced in one transaction, for both IP families.
 * Written and read as nft's JSON; what is read is put into one line of text a rule, the same for desired and actual.
 * Source: libnftables-json(5).
 */
import { type Json, type JsonObject, nftLines } from './nft-words.ts'
import { mustRun, runCommand } from '../run-command.ts'
import {
  type Action,
  type Chain,
  type Condition,
  loopMark,
  markMask,
  type Rule,
  type RuleSet
} from './desired.ts'

export const nftTable = 'underpass'
const priorities = { raw: -300, mangle: -150, nat: -100 } as const
/** Bits of a mark that stay when {@link loopMark} is put into our part of it. */
const keptBits = (0xffffffff ^ markMask) >>> 0

export async function applyNft(netns: number | undefined, rules: RuleSet): Promise<void> {
  await runTransaction(netns, nftTransaction(rules))
}

export async function removeNft(netns: number | undefined): Promise<void> {
  await runTransaction(netns, { nftables: emptyTable().slice(0, 2) })
}

/** As a parameter: with `-f -` nft opens /dev/stdin, which fails for the sockets that Node gives its children. */
async function runTransaction(netns: number | undefined, transaction: JsonObject): Promise<void> {
  await mustRun(netns, 'nft', ['-j', JSON.stringify(transaction)])
}

/** The table as lines; empty when there is none. */
export async function readNft(netns: number | undefined): Promise<readonly string[]> {
  const { code, stdout, stderr } = await runCommand(netns, 'nft', ['-j', 'list', 'table', 'inet', nftTable])
  if (code !== 0) {
    if (/no such file or directory/i.test(stderr + stdout)) return []
    throw new Error(`nft cannot list its table: ${stderr.trim()}`)
  }
  const listed = (JSON.parse(stdout) as { nftables: readonly JsonObject[] }).nftables
  return nftLines(listed)
}

/** What {@link readNft} shall find. */
export function desiredNft(rules: RuleSet): readonly string[] {
  return nftLines(nftTransaction(rules).nftables.map(command => command['add'] as JsonObject))
}

/** Everything for `nft -j -f -`: makes sure of a table, deletes it, makes the new one; the kernel swaps at once. */
export function nftTransaction(rules: RuleSet): { readonly nftables: readonly JsonObject[] } & JsonObject {
  const chains = rules.chains.flatMap((chain): JsonObject[] => [
    {
      add: {
        chain: {
          family: 'inet',
          table: nftTable,
          name: chain.name,
          // Only a chain of type route makes the kernel look for a new route when the mark changes.
          type: chain.table === 'nat' ? 'nat' : chain.name === 'out' ? 'route' : 'filter',
          hook: chain.hook,
          prio: priorities[chain.table],
          policy: 'accept'
        }
      }
    },
    ...chain.rules.flatMap(rule => nftRules(rule)).map(expr => addRule(chain, rules.generation, expr))
  ])
  return { nftables: [...emptyTable(), ...chains] }
}

function emptyTable(): JsonObject[] {
  const table = { table: { family: 'inet', name: nftTable } }
  return [{ add: table }, { delete: table }, { add: table }]
}

function addRule(chain: Chain, generation: string, expr: readonly Json[]): JsonObject {
  return {
    add: {
      rule: { family: 'inet', table: nftTable, chain: chain.name, comment: `generation ${generation}`, expr }
    }
  }
}

function nftRules(rule: Rule): Json[][] {
  const conditions = rule.conditions.map(matchOf)
  const main = [...conditions, ...statementsOf(rule.action)]
  // Where nobody listens, nft's tproxy goes on to the next rule (that of iptables drops): close that door.
  return rule.action.kind === 'tproxy' ? [main, [...conditions, { drop: null }]] : [main]
}

function matchOf(condition: Condition): JsonObject {
  switch (condition.kind) {
    case 'mark':
      return match({ '&': [{ meta: { key: 'mark' } }, markMask] }, condition.value)
    case 'connection-mark':
      return match({ '&': [{ ct: { key: 'mark' } }, markMask] }, condition.value)
    case 'in':
      return match({ meta: { key: 'iifname' } }, condition.device, condition.negated)
    case 'out':
      return match({ meta: { key: 'oifname' } }, condition.device, condition.negated)
    case 'source':
      return match(payload(condition.family === 4 ? 'ip' : 'ip6', 'saddr'), block(condition.block))
    case 'destination':
      return match(payload(condition.family === 4 ? 'ip' : 'ip6', 'daddr'), block(condition.block))
    case 'tcp-syn':
      return match({ '&': [payload('tcp', 'flags'), ['fin', 'syn', 'rst', 'ack']] }, 'syn')
    case 'tcp-port':
      return match(payload('tcp', 'dport'), condition.port)
    case 'udp-port':
      return match(payload('udp', 'dport'), condition.port)
    case 'udp-source-port':
      return match(payload('udp', 'sport'), condition.port)
    default:
      return condition satisfies never
  }
}

function statementsOf(action: Action): JsonObject[] {
  switch (action.kind) {
    case 'return':
      return [{ return: null }]
    case 'drop':
      return [{ drop: null }]
    case 'mark-connection':
      return [setMark('ct')]
    case 'mark-packet':
    case 'restore-mark':
      return [setMark('meta')]
    case 'tproxy':
      return [
        { tproxy: { port: action.port } },
        ...(action.marked ? [setMark('meta')] : []),
        { accept: null }
      ]
    case 'redirect':
      return [{ redirect: { port: action.port } }]
    case 'conntrack-zone':
      return [{ mangle: { key: { ct: { key: 'zone' } }, value: action.zone } }]
    default:
      return action satisfies never
  }
}

function match(left: Json, right: Json, negated = false): JsonObject {
  return { match: { op: negated ? '!=' : '==', left, right } }
}

function payload(protocol: string, field: string): JsonObject {
  return { payload: { protocol, field } }
}

function block(text: string): Json {
  const [addr = '', length] = text.split('/')
  return length === undefined ? addr : { prefix: { addr, len: Number(length) } }
}

function setMark(of: 'ct' | 'meta'): JsonObject {
  const key = { [of]: { key: 'mark' } }
  return { mangle: { key, value: { '|': [{ '&': [key, keptBits] }, loopMark] } } }
}
