/** `loadBalancer.localityLbSetting`. Source: Istio's published LocalityLoadBalancerSetting. */
import { Fields } from '../../shared/mesh/yaml-fields.ts'
import type { LocalityPolicy } from '../traffic-policy.ts'
import { readText } from './read-part.ts'

type Policy<Kind> = Extract<LocalityPolicy, { readonly kind: Kind }>

export function readLocality(fields: Fields): LocalityPolicy {
  const { path, problems } = fields
  const enabled = fields.flag('enabled', true)
  const rules = fields.list('distribute', (value, at) => distribution(new Fields(value, at, problems)))
  const failover = fields.list('failover', (value, at) => regions(new Fields(value, at, problems)))
  const labels = fields.list('failoverPriority', (value, at) => label(value, at, fields))
  if ([rules, failover, labels].filter(({ length }) => length > 0).length > 1) {
    problems.add(path, 'has more than one of distribute, failover and failoverPriority: choose one')
  }
  if (!enabled) return { kind: 'off' }
  if (rules.length > 0) return { kind: 'distribute', rules }
  return labels.length > 0 ? { kind: 'labels', labels } : { kind: 'failover', failover }
}

function distribution(fields: Fields): Policy<'distribute'>['rules'][number] {
  const { problems } = fields
  const from = fields.text('from')
  checkPlace(fields, 'from', from)
  const to = fields.map('to', (place, weight, at) => {
    checkPlace(fields, 'to', place)
    if (Number.isInteger(weight) && (weight as number) >= 1 && (weight as number) <= 100) {
      return [place, weight as number] as const
    }
    problems.add(at, 'expected a whole number from 1 to 100')
    return undefined
  })
  const sum = to.reduce((total, [, weight]) => total + weight, 0)
  if (sum !== 100) problems.add(`${fields.path}.to`, `the weights add up to ${sum}, not to 100`)
  fields.end()
  return { from, to }
}

/** `region/zone/subzone` or less of it; the last may be `*`. */
function checkPlace(fields: Fields, name: string, place: string): void {
  const parts = place.split('/')
  const isPlace =
    parts.length <= 3 &&
    parts.every(
      (part, at) => part !== '' && (!part.includes('*') || (part === '*' && at === parts.length - 1))
    )
  if (isPlace) return
  fields.problems.add(
    `${fields.path}.${name}`,
    `${JSON.stringify(place)} is no place: write region/zone/subzone, or * for all at its end`
  )
}

function regions(fields: Fields): Policy<'failover'>['failover'][number] {
  const made = { from: fields.text('from'), to: fields.text('to') }
  fields.end()
  const { path, problems } = fields
  for (const [name, region] of Object.entries(made)) {
    if (!/^[^/*]+$/.test(region)) {
      problems.add(`${path}.${name}`, `${JSON.stringify(region)} is no region: write it without / and *`)
    }
  }
  if (made.from === made.to) problems.add(`${path}.to`, 'is the region itself: name another one')
  return made
}

function label(value: unknown, path: string, { problems }: Fields): string | undefined {
  const text = readText(value, path, problems)
  if (text === undefined || /^[^=]+(?:=.*)?$/.test(text)) return text
  problems.add(path, `${JSON.stringify(text)} is no label: write key or key=value`)
  return undefined
}
