// The models behind the AI SDK servers: they answer as a directive in the user's text says.
//
// One script in neutral steps, spelled as the parts of MockLanguageModelV1 (ai@4) and MockLanguageModelV2 (ai@5).
// Source: ai/test of both packages, and LanguageModelV1StreamPart and LanguageModelV2StreamPart of @ai-sdk/provider.

import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { MockLanguageModelV1 } from 'ai/test';
import { MockLanguageModelV2 } from 'ai5/test';

const NAMES = 'echo|recall|error|drop|stall|status|tool|clienttool|model';
const DIRECTIVE = new RegExp(`::(${NAMES})((?:\\s(?:(?!::).)*)?)::`, 'g');
const OPTION = /([a-z_]+)=(.*?)(?=\s+[a-z_]+=|\s*$)/g;
const CUTTING = ['error', 'drop', 'stall'];
// Those of the recordings, in turn.
const THOUGHTS = ['The user wants an answer.', 'Let me check the facts — **carefully**.', 'Now I can write it.'];

export class ScriptedError extends Error {}

/** The last directive of a text, because a gateway may fold a whole conversation into one; without one, an echo. */
export function parseDirective(given) {
  const last = [...given.matchAll(DIRECTIVE)].at(-1);
  const options = Object.fromEntries([...(last?.[2] ?? '').matchAll(OPTION)].map(([, key, value]) => [key, value]));
  return {
    name: last?.[1] ?? 'echo',
    options,
    given,
    text: last ? given.slice(last.index + last[0].length).trimStart() : given,
    number: (key, otherwise = 0) => Number(options[key] ?? otherwise),
  };
}

// Each word with the space after it: smoothStream holds a word back until it has seen that space.
const splitWords = text => text.match(/\S+\s*|\s+/g) ?? [];

function wordsOf(directive) {
  const { text, number } = directive;
  const count = number('words') || (text ? 0 : number('after'));
  const words = splitWords(count ? Array.from({ length: count }, (_, n) => `w${n}`).join(' ') : text);
  if (!CUTTING.includes(directive.name)) return words;
  return words.slice(0, number('after')).map(word => word.replace(/(\S)$/, '$1 '));
}

// Image bytes as base64, else JSON would list them number by number; those of a large image as their digest, because
// smoothStream searches a text without spaces for hours.
const LARGE = 100_000;
const digest = bytes => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;

function recalled(_key, value) {
  if (value instanceof Uint8Array) return value.length > LARGE ? digest(value) : Buffer.from(value).toString('base64');
  return value?.length > LARGE && /^[\w+/=]+$/.test(value) ? digest(Buffer.from(value, 'base64')) : value;
}

const promptJson = prompt => JSON.stringify(prompt, recalled);

// The scripted model is a program, started when it is first asked: a line in, a line out, in order.
let program, lines;
let turn = Promise.resolve();

function ask(turns) {
  if (!program) {
    const file = new URL('scripted_model.py', import.meta.url).pathname;
    program = spawn('python3', [file], { stdio: ['pipe', 'pipe', 'inherit'] });
    lines = createInterface({ input: program.stdout });
  }
  const answered = turn.then(async () => {
    program.stdin.write(`${JSON.stringify({ turns })}\n`);
    const [line] = await Promise.race([once(lines, 'line'), once(program, 'exit')]);
    return JSON.parse(line);
  });
  turn = answered.catch(() => {});
  return answered;
}

const textOf = content =>
  typeof content === 'string' ? content : content.filter(({ type }) => type === 'text').map(({ text }) => text).join('\n');

async function* scriptedModel(directive, prompt, signal) {
  let output = 0;
  for (const step of await ask(prompt.map(({ role, content }) => [role, textOf(content)]))) {
    if (step.text || step.thought) output += 1;
    if (step.error) step.error = new ScriptedError(step.error);
    if (step.text || step.thought || step.error) yield step;
    if (await stopped(step.stall ? Infinity : (step.wait ?? 0), signal)) return;
    if (step.error) return void (yield { finish: 'error', usage: usage(directive, output) });
  }
  yield { finish: 'stop', usage: usage(directive, output) };
}

/** The neutral steps of one model call. It ends early, without a finish, when the signal says that the client left. */
async function* script(directive, prompt, signal) {
  const { name, options, number } = directive;
  if (name === 'model') return void (yield* scriptedModel(directive, prompt, signal));
  const answersTool = prompt.at(-1)?.role === 'tool';
  const thoughts = Array.from({ length: answersTool ? 0 : number('think') }, (_, n) => THOUGHTS[n % THOUGHTS.length]);
  for (const thought of thoughts) {
    for (const words of thought.match(/\s*\S+/g)) {
      yield { thought: words };
      if (await stopped(number('gap'), signal)) return;
    }
  }
  if (name.endsWith('tool') && !answersTool) {
    if (options.pre === '1') yield { text: 'Let me look. ' };
    const toolName = name === 'tool' ? 'getWeather' : 'askUser';
    yield { call: { toolCallId: 'call_1', toolName }, input: '{"city":"Oslo"}' };
    yield { finish: 'tool-calls', usage: usage(directive, options.pre === '1' ? 1 : 0) };
    return;
  }
  let words = wordsOf(directive);
  if (name === 'recall') words = [promptJson(prompt)];
  if (answersTool && words.length === 0) words = splitWords('It is 7 degrees.');
  for (const word of words) {
    yield { text: word };
    if (await stopped(number('gap'), signal)) return;
  }
  // A dropped connection is the HTTP side's work; until it acts, the model is silent.
  if (name === 'drop' || name === 'stall') return void (await stopped(Infinity, signal));
  if (name === 'error') {
    yield { error: failure(directive) };
    if (options.rest === '1') for (const word of splitWords(directive.text).slice(words.length)) yield { text: word };
  }
  const finish = name === 'error' ? 'error' : options.length === '1' ? 'length' : 'stop';
  yield { finish, usage: usage(directive, thoughts.length + words.length) };
}

const failure = directive => new ScriptedError(directive.options.message ?? 'secret internal detail');

// Made up, but exact: the characters of the user's text, and the words and thoughts of the answer.
const usage = ({ given, options }, output) => (options.usage === 'none' ? undefined : { input: given.length, output });

/** Wait, and return whether the client has left meanwhile. */
async function stopped(milliseconds, signal) {
  if (milliseconds === Infinity) {
    await new Promise(resolve => (signal.aborted ? resolve() : signal.addEventListener('abort', resolve)));
  } else if (milliseconds > 0 && !signal.aborted) {
    await sleep(milliseconds, undefined, { signal }).catch(() => {}); // rejects only for the signal
  }
  return signal.aborted;
}

function* spelledV1(step) {
  if (step.thought) yield { type: 'reasoning', textDelta: step.thought };
  if (step.text) yield { type: 'text-delta', textDelta: step.text };
  if (step.error) yield { type: 'error', error: step.error };
  if (step.call) {
    const call = { toolCallType: 'function', ...step.call };
    for (const argsTextDelta of step.input.split(/(?<=:)/)) yield { type: 'tool-call-delta', ...call, argsTextDelta };
    yield { type: 'tool-call', ...call, args: step.input };
  }
  if (step.finish) {
    const { input = NaN, output = NaN } = step.usage ?? {};
    yield { type: 'finish', finishReason: step.finish, usage: { promptTokens: input, completionTokens: output } };
  }
}

/** ai@5 wants its deltas in blocks: this remembers which block is open. */
function spellV2() {
  let open, count = 0;
  function* block(kind) {
    if (open && open.kind !== kind) yield { type: `${open.kind}-end`, id: open.id };
    if (kind && open?.kind !== kind) yield { type: `${kind}-start`, id: `${kind[0]}${count++}` };
  }
  function* delta(kind, text) {
    for (const part of block(kind)) {
      yield part;
      if (part.type === `${kind}-start`) open = { kind, id: part.id };
    }
    yield { type: `${kind}-delta`, id: open.id, delta: text };
  }
  return function* spelled(step) {
    if (step.thought) return yield* delta('reasoning', step.thought);
    if (step.text) return yield* delta('text', step.text);
    yield* block(undefined);
    open = undefined;
    if (step.error) yield { type: 'error', error: step.error };
    if (step.call) {
      const id = step.call.toolCallId;
      yield { type: 'tool-input-start', id, toolName: step.call.toolName };
      yield { type: 'tool-input-delta', id, delta: step.input };
      yield { type: 'tool-input-end', id };
      yield { type: 'tool-call', ...step.call, input: step.input };
    }
    if (step.finish) {
      const { input, output } = step.usage ?? {};
      const usage = { inputTokens: input, outputTokens: output, totalTokens: step.usage && input + output };
      yield { type: 'finish', finishReason: step.finish, usage };
    }
  };
}

function doStream(directive, signal, makeSpelling, head) {
  return async ({ prompt }) => {
    // A provider that refuses: the call itself fails, there is no stream.
    const { name, number } = directive;
    if (name === 'error' && !number('after') && !number('think')) throw failure(directive);
    const spelled = makeSpelling();
    async function* parts() {
      yield* head;
      for await (const step of script(directive, prompt, signal)) yield* spelled(step);
    }
    return { stream: ReadableStream.from(parts()), rawCall: { rawPrompt: null, rawSettings: {} } };
  };
}

// Both take any URL as it is, as OpenAI's models do: the SDK must not download our images.

export const modelV1 = (modelId, directive, signal) =>
  new MockLanguageModelV1({
    modelId,
    supportsUrl: () => true,
    doStream: doStream(directive, signal, () => spelledV1, []),
  });

export const modelV2 = (modelId, directive, signal) =>
  new MockLanguageModelV2({
    modelId,
    supportedUrls: { '*/*': [/^https?:/] },
    doStream: doStream(directive, signal, spellV2, [{ type: 'stream-start', warnings: [] }]),
  });
