/** A tar archive of texts. Source: POSIX.1-1988, ustar interchange format. */

const blockBytes = 512

export interface TarEntry {
  /** At most 255 bytes, of which the last name at most 100. */
  readonly path: string
  readonly content: string
}

/** The whole archive; `now` in milliseconds is the time of all its files. */
export function tarOf(entries: readonly TarEntry[], now: number): Buffer {
  const blocks = entries.flatMap(({ path, content }) => {
    const bytes = Buffer.from(content)
    return [header(path, bytes.length, now), bytes, Buffer.alloc(-bytes.length & (blockBytes - 1))]
  })
  return Buffer.concat([...blocks, Buffer.alloc(2 * blockBytes)])
}

function header(path: string, size: number, now: number): Buffer {
  const { prefix, name } = splitPath(path)
  const block = Buffer.alloc(blockBytes)
  const octal = (value: number, digits: number): string => value.toString(8).padStart(digits, '0')
  block.write(name, 0, 100)
  block.write(octal(0o600, 7), 100)
  block.write(octal(0, 7), 108)
  block.write(octal(0, 7), 116)
  block.write(octal(size, 11), 124)
  block.write(octal(Math.floor(now / 1000), 11), 136)
  block.write(' '.repeat(8), 148) // the checksum is taken with blanks in its own place
  block.write('0', 156)
  block.write('ustar\u000000', 257)
  block.write(prefix, 345, 155)
  const sum = block.reduce((total, byte) => total + byte, 0)
  block.write(`${octal(sum, 6)}\u0000 `, 148)
  return block
}

function splitPath(path: string): { readonly prefix: string; readonly name: string } {
  if (Buffer.byteLength(path) <= 100) return { prefix: '', name: path }
  const cut = path.lastIndexOf('/')
  const [prefix, name] = [path.slice(0, Math.max(0, cut)), path.slice(cut + 1)]
  if (Buffer.byteLength(prefix) > 155 || Buffer.byteLength(name) > 100) {
    throw new Error(`${path} is too long a name for a tar archive`)
  }
  return { prefix, name }
}
