/** Whether a text is an expression of CEL. Source: the Common Expression Language's published grammar; nothing is evaluated. */

type Token = { readonly kind: 'name' | 'literal' | 'sign' | 'end'; readonly text: string }

const tokens =
  /\s+|\/\/[^\n]*|(?<literal>(?:[rR]?[bB]|[bB]?[rR])?(?:"""[\s\S]*?"""|'''[\s\S]*?'''|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')|0x[\dA-Fa-f]+u?|\d+\.\d+(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?|\d+(?:[eE][+-]?\d+)|\d+u?)|(?<name>[A-Za-z_]\w*)|(?<sign>&&|\|\||==|!=|<=|>=|[-+*/%!<>?:.,()[\]{}])/y

/** Names that stand for something else. */
const reserved = new Set(
  'as break const continue else for function if import let loop package namespace return var void while'.split(
    ' '
  )
)
/** Operators by how tightly they bind, loosest first. */
const levels = [['||'], ['&&'], ['<', '<=', '>=', '>', '==', '!=', 'in'], ['+', '-'], ['*', '/', '%']]
/** Deep enough for people; an expression that nests deeper is refused instead of exhausting the stack. */
const deepest = 200

class SyntaxProblem extends Error {}

/** What is wrong with it; undefined when nothing is. */
export function expressionProblem(text: string): string | undefined {
  try {
    new Parser(tokensOf(text)).whole()
    return undefined
  } catch (error) {
    if (error instanceof SyntaxProblem) return error.message
    throw error
  }
}

function tokensOf(text: string): readonly Token[] {
  const found: Token[] = []
  for (let at = 0; at < text.length; at = tokens.lastIndex) {
    tokens.lastIndex = at
    const groups = tokens.exec(text)?.groups
    if (groups === undefined) throw new SyntaxProblem(`unexpected ${JSON.stringify(text[at])}`)
    for (const kind of ['literal', 'name', 'sign'] as const) {
      const part = groups[kind]
      if (part !== undefined) found.push({ kind, text: part })
    }
  }
  return found
}

class Parser {
  readonly #tokens: readonly Token[]
  #at = 0
  #depth = 0

  constructor(list: readonly Token[]) {
    this.#tokens = list
  }

  whole(): void {
    this.#expression()
    if (this.#next.kind !== 'end') this.#unexpected()
  }

  get #next(): Token {
    return this.#tokens[this.#at] ?? { kind: 'end', text: '' }
  }

  #expression(): void {
    if (++this.#depth > deepest) throw new SyntaxProblem('nests too deeply')
    this.#level(0)
    if (this.#take('?')) {
      this.#level(0)
      this.#need(':')
      this.#expression()
    }
    this.#depth -= 1
  }

  #level(index: number): void {
    const operators = levels[index]
    if (operators === undefined) return this.#unary()
    do this.#level(index + 1)
    while (operators.some(operator => this.#take(operator)))
  }

  #unary(): void {
    const sign = ['!', '-'].find(each => this.#take(each)) ?? ''
    for (let more = sign !== ''; more; more = this.#take(sign));
    this.#primary()
    for (;;) {
      if (this.#take('.')) {
        this.#take('?')
        this.#name()
        if (this.#take('(')) this.#list(')')
      } else if (this.#take('[')) {
        this.#take('?')
        this.#expression()
        this.#need(']')
      } else if (this.#take('{')) this.#entries()
      else return
    }
  }

  #primary(): void {
    if (this.#next.kind === 'literal') this.#at += 1
    else if (this.#take('(')) {
      this.#expression()
      this.#need(')')
    } else if (this.#take('[')) this.#list(']')
    else if (this.#take('{')) this.#entries()
    else {
      this.#take('.')
      if (reserved.has(this.#next.text)) this.#unexpected()
      this.#name()
      if (this.#take('(')) this.#list(')')
    }
  }

  #name(): void {
    if (this.#next.kind !== 'name' || this.#next.text === 'in') this.#unexpected()
    this.#at += 1
  }

  #list(end: string): void {
    while (!this.#take(end)) {
      this.#expression()
      if (!this.#take(',')) return this.#need(end)
    }
  }

  #entries(): void {
    while (!this.#take('}')) {
      this.#expression()
      this.#need(':')
      this.#expression()
      if (!this.#take(',')) return this.#need('}')
    }
  }

  #take(text: string): boolean {
    if (this.#next.kind === 'literal' || this.#next.text !== text) return false
    this.#at += 1
    return true
  }

  #need(text: string): void {
    if (!this.#take(text)) this.#unexpected()
  }

  #unexpected(): never {
    const { kind, text } = this.#next
    throw new SyntaxProblem(kind === 'end' ? 'it ends too early' : `unexpected ${JSON.stringify(text)}`)
  }
}
