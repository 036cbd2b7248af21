/** `CRL_PATH`: the revocation lists of a file, read again when its folder changes. */
import { watch, type FSWatcher } from 'node:fs'
import path from 'node:path'
import { messageOf } from '../runtime/errors.ts'
import { readIfThere } from '../runtime/read-if-there.ts'
import type { Logger } from '../telemetry/logger.ts'
import { RevocationList } from './revocation.ts'

export interface RevocationFileOptions {
  readonly file: string
  /** Each valid content that differs from the last; `bytes` is for other threads, which read it themselves. */
  readonly onChange: (list: RevocationList, bytes: Uint8Array) => void
  readonly log: Logger
  /** How long changes have to be over; mounts of Kubernetes change in several steps. */
  readonly settleMs?: number
}

export class RevocationFile {
  readonly #options: RevocationFileOptions
  #bytes: Buffer
  #watcher: FSWatcher | undefined
  #timer: NodeJS.Timeout | undefined

  /** Reads the file; none is an empty list. Throws a CertificateError for a content that is no list. */
  constructor(options: RevocationFileOptions) {
    this.#options = options
    this.#bytes = contentOf(options.file)
    options.onChange(RevocationList.read(this.#bytes), this.#bytes)
    this.#watch()
  }

  close(): void {
    clearTimeout(this.#timer)
    this.#watcher?.close()
    this.#watcher = undefined
  }

  /** The folder, because a mounted file is replaced and not written. */
  #watch(): void {
    const { file, log, settleMs = 2000 } = this.#options
    try {
      this.#watcher = watch(path.dirname(file), { persistent: false }, () => {
        clearTimeout(this.#timer)
        this.#timer = setTimeout(() => this.#readAgain(), settleMs)
        this.#timer.unref()
      })
      this.#watcher.on('error', error =>
        log.warn('the folder of CRL_PATH is not watched any more', { error: error.message })
      )
    } catch (error) {
      log.warn('the folder of CRL_PATH cannot be watched; changes need a restart', {
        error: messageOf(error)
      })
    }
  }

  #readAgain(): void {
    const { file, onChange, log } = this.#options
    try {
      const bytes = contentOf(file)
      if (bytes.equals(this.#bytes)) return
      const list = RevocationList.read(bytes)
      this.#bytes = bytes
      log.info('revocation lists read', { file, revoked: list.size })
      onChange(list, bytes)
    } catch (error) {
      log.error('the new revocation lists cannot be read; the old ones stay', {
        file,
        error: messageOf(error)
      })
    }
  }
}

function contentOf(file: string): Buffer {
  return readIfThere(file) ?? Buffer.alloc(0)
}
