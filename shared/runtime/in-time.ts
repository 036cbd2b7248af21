/** For what cannot be cancelled: nobody has to wait for it longer than they want to. */

/** Rejects with `late` after so many milliseconds; what comes later is dropped. */
export async function inTime<T>(answer: Promise<T>, timeoutMs: number, late: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const over = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(late)), timeoutMs)
  })
  try {
    return await Promise.race([answer, over])
  } finally {
    clearTimeout(timer)
  }
}
