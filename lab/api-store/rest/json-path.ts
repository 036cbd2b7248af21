/**
 * The JSON paths of printer columns: `.spec.hosts`, `['a.b']`, `[0]`, `[*]`, `[?(@.type=="Ready")].status`.
 * Source: Kubernetes, "JSONPath Support".
 */
import { isObject } from '../json.ts'

type Step =
  | { readonly kind: 'field'; readonly name: string }
  | { readonly kind: 'index'; readonly index: number }
  | { readonly kind: 'every' }
  | {
      readonly kind: 'filter'
      readonly path: readonly Step[]
      readonly operator: '==' | '!='
      readonly value: unknown
    }

const compiled = new Map<string, readonly Step[] | undefined>()
const maxCompiled = 2000

/** The values at the path; none where it leads nowhere or is not understood. */
export function valuesAt(value: unknown, path: string): readonly unknown[] {
  let steps = compiled.get(path)
  if (steps === undefined && !compiled.has(path)) {
    if (compiled.size >= maxCompiled) compiled.clear()
    steps = parse(path)
    compiled.set(path, steps)
  }
  return steps === undefined ? [] : follow([value], steps)
}

function follow(values: readonly unknown[], steps: readonly Step[]): readonly unknown[] {
  return steps.reduce((found, step) => found.flatMap(value => take(value, step)), values)
}

function take(value: unknown, step: Step): readonly unknown[] {
  switch (step.kind) {
    case 'field':
      return isObject(value) && Object.hasOwn(value, step.name) ? [value[step.name]] : []
    case 'index':
      return Array.isArray(value) && value.length > 0 ? value.slice(step.index).slice(0, 1) : []
    case 'every':
      return Array.isArray(value) ? value : isObject(value) ? Object.values(value) : []
    case 'filter':
      return (Array.isArray(value) ? value : []).filter(item => {
        const same = follow([item], step.path).some(found => found === step.value)
        return step.operator === '==' ? same : !same
      })
    default:
      return step satisfies never
  }
}

const token =
  /^(?:\.((?:[^.[\]\\]|\\.)+)|\[(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)"|(-?\d+)|(\*)|\?\(\s*@([^=!)]*?)\s*(==|!=)\s*([^)]*?)\s*\))\])/

function parse(path: string): readonly Step[] | undefined {
  const steps: Step[] = []
  let rest = path.replace(/^\{(.*)\}$/, '$1').replace(/^\$/, '')
  if (rest === '' || rest === '.') return steps
  if (!/^[.[]/.test(rest)) rest = `.${rest}`
  while (rest !== '') {
    const match = token.exec(rest)
    if (match === null) return undefined
    const [whole, bare, single, double, index, every, filterPath, operator, literal = ''] = match
    const name = bare ?? single ?? double
    if (name === '*' || every !== undefined) steps.push({ kind: 'every' })
    else if (name !== undefined) steps.push({ kind: 'field', name: name.replaceAll(/\\(.)/g, '$1') })
    else if (index !== undefined) steps.push({ kind: 'index', index: Number(index) })
    else {
      const inner = parse(filterPath ?? '')
      if (inner === undefined) return undefined
      steps.push({
        kind: 'filter',
        path: inner,
        operator: operator === '!=' ? '!=' : '==',
        value: literalOf(literal)
      })
    }
    rest = rest.slice(whole.length)
  }
  return steps
}

function literalOf(text: string): unknown {
  if (/^(["']).*\1$/.test(text)) return text.slice(1, -1)
  if (text === 'true' || text === 'false') return text === 'true'
  return Number.isNaN(Number(text)) ? text : Number(text)
}
