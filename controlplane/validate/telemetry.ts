/** Telemetry. Source: Istio's published definition (telemetry.istio.io). */
import type { Fields } from '../read/fields.ts'
import { expressionProblem } from './cel-syntax.ts'
import type { Findings } from './finding.ts'
import { checkSelection } from './selection.ts'

export function validateTelemetry(object: Fields, findings: Findings): void {
  const spec = object.at('spec')
  checkSelection(spec, findings)
  for (const metrics of spec.list('metrics')) checkMetrics(metrics, findings)
  checkTracing(spec, findings)
  for (const logging of spec.list('accessLogging')) {
    checkProviders(logging, findings)
    if (!logging.has('filter')) continue
    const filter = logging.at('filter')
    const problem = expressionProblem(filter.text('expression'))
    if (problem !== undefined) {
      findings.error(
        filter.pathOf('expression'),
        `is no expression: ${problem}`,
        'write it in CEL, as response.code >= 500'
      )
    }
  }
}

function checkProviders(holder: Fields, findings: Findings): void {
  for (const provider of holder.list('providers')) {
    if (provider.text('name') !== '') continue
    findings.error(provider.pathOf('name'), 'is missing', 'name a provider of the mesh configuration')
  }
}

function checkMetrics(metrics: Fields, findings: Findings): void {
  checkProviders(metrics, findings)
  for (const override of metrics.list('overrides')) {
    const match = override.at('match')
    if (match.has('customMetric') && match.text('customMetric') === '') {
      findings.error(match.pathOf('customMetric'), 'is empty', 'name the metric')
    }
    const tags = override.at('tagOverrides')
    for (const name of tags.names()) {
      const tag = tags.at(name)
      const operation = tag.oneOf('operation', ['UPSERT', 'REMOVE'], 'UPSERT')
      if (operation === 'UPSERT' && tag.text('value') === '') {
        findings.error(tag.pathOf('value'), 'is missing', 'give a value, or set operation to REMOVE')
      } else if (operation === 'REMOVE' && tag.text('value') !== '') {
        findings.error(tag.pathOf('value'), 'has no effect with operation REMOVE', 'leave it out')
      }
    }
  }
}

function checkTracing(spec: Fields, findings: Findings): void {
  const all = spec.list('tracing')
  if (all.length > 1) findings.warn(spec.pathOf('tracing'), 'only one entry is supported', 'keep one')
  for (const tracing of all) {
    checkProviders(tracing, findings)
    if (tracing.list('providers').length > 1) {
      findings.warn(tracing.pathOf('providers'), 'only one provider is supported', 'keep one')
    }
    const share = tracing.number('randomSamplingPercentage')
    if (share < 0 || share > 100) {
      findings.error(tracing.pathOf('randomSamplingPercentage'), `${share} is no percentage`, 'use 0 to 100')
    }
    const tags = tracing.at('customTags')
    for (const name of tags.names()) checkTag(tags.at(name), name, findings)
  }
}

const tagKinds = { literal: 'value', header: 'name', environment: 'name' } as const

function checkTag(tag: Fields, name: string, findings: Findings): void {
  if (name === '') findings.error(tag.path, 'a tag has no name', 'name it')
  for (const [kind, part] of Object.entries(tagKinds)) {
    if (tag.has(kind) && tag.at(kind).text(part) === '') {
      findings.error(tag.at(kind).pathOf(part), 'is missing', `give the ${part}`)
    }
  }
}
