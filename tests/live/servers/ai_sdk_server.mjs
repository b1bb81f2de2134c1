// A real AI SDK upstream, steered by a directive in the user's text (README.md lists them).
//
//   POST /api/chat        data stream v1 (ai@4), with what Markeljan/minimal-chatbot does around it
//   POST /plain/api/chat  data stream v1 (ai@4), streamText and nothing else, reasoning shown
//   POST /ui/api/chat     UI message stream v1 (ai@5)
//
// Source: npm ai 4.3.19 and 5.0.277. The chatbot is Markeljan/minimal-chatbot @85c9d1a, app/(chat)/api/chat/route.ts:
// its behaviour, not its code.

import http from 'node:http';
import { parseArgs } from 'node:util';
import * as ai4 from 'ai';
import * as ai5 from 'ai5';
import { modelV1, modelV2, parseDirective, ScriptedError } from './ai_sdk_models.mjs';

const MODELS = ['gpt-4o-mini', 'gpt-4o'];
const SYSTEM = 'You are a friendly assistant! Keep your responses concise and helpful.';
const MASKED = 'An error occurred.'; // what both packages say by default
const HTML = '<html><h1>Bad gateway</h1></html>';

// --- what the three addresses do -------------------------------------------------------------------------------------

const city = { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] };
const weather = async ({ city }) => ({ city, celsius: 7 });
// getWeather runs here; askUser is the client's to run.
const toolsV1 = {
  getWeather: ai4.tool({ parameters: ai4.jsonSchema(city), execute: weather }),
  askUser: ai4.tool({ parameters: ai4.jsonSchema(city) }),
};
const toolsV2 = {
  getWeather: ai5.tool({ inputSchema: ai5.jsonSchema(city), execute: weather }),
  askUser: ai5.tool({ inputSchema: ai5.jsonSchema(city) }),
};

function onError({ error }) {
  if (!(error instanceof ScriptedError)) console.error(error);
}

const shown = directive => () => directive.options.message ?? MASKED;

function streamV1(body, messages, directive, signal, more) {
  return ai4.streamText({
    model: modelV1(body.modelId, directive, signal),
    messages,
    tools: toolsV1,
    toolCallStreaming: directive.options.streaming === '1',
    maxSteps: 5,
    onError,
    ...more,
  });
}

function chatbot(body, directive, signal) {
  if (!MODELS.includes(body.modelId)) return new Response('Model not found', { status: 404 });
  const messages = ai4.convertToCoreMessages(body.messages);
  if (!messages.some(message => message.role === 'user')) return new Response('No user message found', { status: 400 });
  return ai4.createDataStreamResponse({
    execute(dataStream) {
      dataStream.writeData({ type: 'user-message-id', content: crypto.randomUUID() });
      const smooth = ai4.smoothStream({ chunking: 'word' });
      const more = { system: SYSTEM, experimental_transform: smooth };
      streamV1(body, messages, directive, signal, more).mergeIntoDataStream(dataStream);
    },
  });
}

// Some servers of this protocol take OpenAI's image parts; the chatbot, with the bare package, refuses them.
const imagePart = part => (part.type === 'image_url' ? { type: 'image', image: part.image_url.url } : part);

function plain(body, directive, signal) {
  const messages = ai4.convertToCoreMessages(body.messages).map(message =>
    message.role === 'user' && Array.isArray(message.content)
      ? { ...message, content: message.content.map(imagePart) }
      : message,
  );
  const result = streamV1(body, messages, directive, signal, {});
  return result.toDataStreamResponse({ sendReasoning: true, getErrorMessage: shown(directive) });
}

function uiMessages(body, directive, signal) {
  const result = ai5.streamText({
    model: modelV2(body.modelId, directive, signal),
    messages: ai5.convertToModelMessages(body.messages),
    tools: toolsV2,
    stopWhen: ai5.stepCountIs(5),
    onError,
  });
  return result.toUIMessageStreamResponse({
    sendReasoning: true,
    onError: shown(directive),
    messageMetadata({ part }) {
      const asked = directive.options.usage === 'metadata' && part.type === 'finish';
      return asked ? { totalUsage: part.totalUsage } : undefined;
    },
  });
}

const CHATS = { '/api/chat': chatbot, '/plain/api/chat': plain, '/ui/api/chat': uiMessages };

// --- HTTP ------------------------------------------------------------------------------------------------------------

const connections = { open: 0, closed_early: 0, served: 0, last_closed_at: null };
let last = { headers: null, body: null };

/** The text of the last user message; once one has called for the scripted model, that one's. */
function userText(body) {
  const texts = (Array.isArray(body?.messages) ? body.messages : []).filter(({ role }) => role === 'user').map(messageText);
  return texts.findLast(text => parseDirective(text).name === 'model') ?? texts.at(-1) ?? '';
}

/** A message's text, in the forms of both generations. */
function messageText(message) {
  const parts = message.content?.length ? message.content : message.parts;
  if (typeof parts === 'string') return parts;
  return (parts ?? []).filter(({ type }) => type === 'text').map(({ text }) => text).join('\n');
}

function scriptedStatus({ options, number }) {
  const headers = options.retry_after ? { 'retry-after': options.retry_after } : {};
  const status = number('code', 500);
  if (options.body === 'empty') return new Response(null, { status, headers });
  const html = { ...headers, 'content-type': 'text/html' };
  if (options.body === 'html') return new Response(HTML, { status, headers: html });
  return Response.json({ error: options.message ?? 'scripted' }, { status, headers });
}

async function answer(path, body, directive, signal) {
  try {
    if (directive.name === 'status') return scriptedStatus(directive);
    return await CHATS[path](body, directive, signal);
  } catch (error) {
    console.error(error); // what Next.js does with a route that throws
    return new Response('Internal Server Error', { status: 500, headers: { 'content-type': 'text/plain' } });
  }
}

/** Send the answer. Returns early when the client has left, or when the script says to leave the client. */
async function send(response, res, directive) {
  res.writeHead(response.status, Object.fromEntries(response.headers));
  res.flushHeaders();
  let words = directive.name === 'drop' ? directive.number('after') : Infinity;
  for await (const chunk of words > 0 ? (response.body ?? []) : []) {
    if (res.destroyed) return;
    if (!res.write(chunk)) await new Promise(resolve => res.once('drain', resolve).once('close', resolve));
    words -= Buffer.from(chunk).toString().match(/^0:|"type":"text-delta"/gm)?.length ?? 0;
    if (words <= 0) break;
  }
  if (words <= 0 && directive.options.clean !== '1') res.socket?.destroySoon(); // no last chunk, but all words
  else res.end();
}

async function chat(req, res, path) {
  const left = new AbortController(); // the client has left, or been left: the model can stop
  connections.open += 1;
  connections.served += 1;
  let directive = parseDirective('');
  res.on('close', () => {
    connections.open -= 1;
    left.abort();
    if (res.writableFinished || directive.name === 'drop') return;
    connections.closed_early += 1;
    connections.last_closed_at = Date.now() / 1000;
  });
  const text = Buffer.concat(await req.toArray()).toString();
  const body = decoded(text);
  last = { headers: req.headers, body };
  directive = parseDirective(userText(body));
  await send(await answer(path, body, directive, left.signal), res, directive);
  left.abort();
}

function decoded(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

const server = http.createServer((req, res) => {
  const path = new URL(req.url, 'http://localhost').pathname;
  const json = { 'content-type': 'application/json' };
  if (req.method === 'POST' && path in CHATS) {
    // A request or an answer cut in the middle rejects; the connection is then of no more use, the server is.
    return void chat(req, res, path).catch(error => {
      console.error(error);
      res.destroy();
    });
  }
  if (path === '/connections') return void res.writeHead(200, json).end(JSON.stringify(connections));
  if (path === '/last') return void res.writeHead(200, json).end(JSON.stringify(last));
  return void res.writeHead(404).end();
});

const { port } = parseArgs({ options: { port: { type: 'string', default: '0' } } }).values;
server.listen(Number(port), '127.0.0.1', () => console.log(`ready ${server.address().port}`));
