// What both roles do with streams: read them by pulling, write them with back-pressure, and hash what passes.
import { createHash, hash } from 'node:crypto'
import { setImmediate as turned } from 'node:timers/promises'

const HIGH_WATER = 1 << 20
const WHOLE_WINDOW = 32 << 20 // more than the 16 MiB of credit that a peer may still use up after a pause

/** Reads a stream by pulling. `end` is null until the peer's FIN (eof), a reset, or the connection's end. */
export class Inbox {
  #stream
  #chunks = []
  #held = 0
  #wake = () => {}
  end = null
  error = null

  constructor (stream) {
    this.#stream = stream
    stream.maxReadBufferLength = WHOLE_WINDOW
    const finish = (end, error = null) => {
      if (this.end == null) [this.end, this.error] = [end, error]
      this.#wake()
    }
    stream.addEventListener('message', (event) => {
      const chunk = event.data.subarray()
      this.#chunks.push(chunk)
      this.#held += chunk.byteLength
      if (this.#held > HIGH_WATER && stream.readStatus === 'readable') stream.pause()
      this.#wake()
    })
    stream.addEventListener('end', () => {
      if (stream.status !== 'reset' && stream.status !== 'aborted') finish('eof')
    })
    stream.addEventListener('close', ({ error, local }) => {
      if (error == null) finish('eof')
      else finish(local ? 'error' : 'reset', error)
    })
    if (stream.readableEnded) finish('eof')
  }

  /** The next bytes, or null when there are no more (then `end` tells why). */
  async read (signal) {
    while (this.#chunks.length === 0) {
      if (this.end != null) return null
      const { promise, resolve, reject } = Promise.withResolvers()
      const expired = () => reject(signal.reason)
      this.#wake = resolve
      signal?.throwIfAborted()
      signal?.addEventListener('abort', expired)
      try { await promise } finally { signal?.removeEventListener('abort', expired) }
    }
    const chunk = this.#chunks.shift()
    this.#held -= chunk.byteLength
    if (this.#held === 0 && this.#stream.readStatus === 'paused') this.#stream.resume()
    return chunk
  }

  unread (chunk) {
    if (chunk.byteLength === 0) return
    this.#chunks.unshift(chunk)
    this.#held += chunk.byteLength
  }

  /** The JSON object at the start of the stream, without the newline behind it; what follows stays readable. */
  async readObject (signal) {
    let bytes = Buffer.alloc(0)
    for (;;) {
      const chunk = await this.read(signal)
      if (chunk == null) throw this.error ?? new Error('EOF')
      bytes = Buffer.concat([bytes, chunk])
      const length = objectLength(bytes)
      if (length === 0) continue
      const rest = bytes.subarray(length)
      this.unread(rest[0] === 0x0a ? rest.subarray(1) : rest)
      return JSON.parse(bytes.toString('utf8', 0, length))
    }
  }
}

/** How many bytes the JSON object at the start takes; 0 when it is not complete. */
function objectLength (bytes) {
  let depth = 0
  let quoted = false
  for (let i = 0; i < bytes.length; i++) {
    const char = String.fromCharCode(bytes[i])
    if (quoted) {
      if (char === '\\') i++
      else if (char === '"') quoted = false
    } else if (char === '"') quoted = true
    else if (char === '{') depth++
    else if (char === '}' && --depth === 0) return i + 1
  }
  return 0
}

/** Sends bytes, and waits as long as the stream asks to; in any case until the event loop has turned once. */
export async function send (stream, bytes, signal) {
  if (bytes.byteLength === 0) return
  if (!stream.send(bytes) && stream.status === 'open') await stream.onDrain({ signal })
  await turned() // else a sender of much data keeps all I/O waiting for seconds, and its peers take it for dead
}

/** sha256(seed ":" 0), sha256(seed ":" 1), ... cut to so many bytes, in chunks of up to 32 KiB. */
export function * random (seed, bytes) {
  for (let block = 0, left = bytes; left > 0;) {
    const blocks = []
    for (; blocks.length < 1024 && blocks.length * 32 < left; block++) {
      blocks.push(hash('sha256', `${seed}:${block}`, 'buffer'))
    }
    const chunk = Buffer.concat(blocks).subarray(0, left)
    left -= chunk.byteLength
    yield chunk
  }
}

/** Counts and hashes what passes, and keeps its first bytes. */
export class Tally {
  #hash = createHash('sha256')
  #head = Buffer.alloc(0)
  count = 0

  add (chunk) {
    if (this.#head.length < 1024) this.#head = Buffer.concat([this.#head, chunk]).subarray(0, 1024)
    this.#hash.update(chunk)
    this.count += chunk.byteLength
  }

  sum () {
    return this.#hash.copy().digest('hex')
  }

  report (name) {
    return { [name]: this.count, [`${name}_sha256`]: this.sum(), [`${name}_head`]: this.#head.toString('hex') }
  }
}
