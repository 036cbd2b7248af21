/**
 * Which requests are logged, by an expression of Envoy's attributes in CEL: comparisons of `response.code` with
 * numbers, joined by `&&` and `||` without brackets.
 */

/** Whether a request that was answered so is meant; 0 stands for no answer. */
export type ResponseTest = (status: number) => boolean

const comparison = /^\s*response\.code\s*(==|!=|>=|<=|>|<)\s*(\d{1,3})\s*$/

const tests: Readonly<Record<string, (status: number, limit: number) => boolean>> = {
  '==': (status, limit) => status === limit,
  '!=': (status, limit) => status !== limit,
  '>=': (status, limit) => status >= limit,
  '<=': (status, limit) => status <= limit,
  '>': (status, limit) => status > limit,
  '<': (status, limit) => status < limit
}

/** Undefined: more than is understood here. */
export function readLogFilter(expression: string): ResponseTest | undefined {
  const alternatives: ResponseTest[][] = []
  for (const alternative of expression.split('||')) {
    const all: ResponseTest[] = []
    for (const part of alternative.split('&&')) {
      const [, operator = '', limit = ''] = comparison.exec(part) ?? []
      const test = tests[operator]
      if (test === undefined) return undefined
      all.push(status => test(status, Number(limit)))
    }
    alternatives.push(all)
  }
  return status => alternatives.some(all => all.every(test => test(status)))
}
