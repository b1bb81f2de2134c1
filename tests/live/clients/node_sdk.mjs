// The official Node SDK, driven by JSON lines: a request a line on standard input, its outcome on standard output.
//
//   {"base", "retries", "method": "create" | "stream" | "helper" | "models" | "model", "body"}
//   → {"chunk"} for each chunk of a stream, then {"value"} or {"error"}; a line {"method": "abort"} ends a stream early

import { createInterface } from 'node:readline';
import { createRequire } from 'node:module';

const { OpenAI } = createRequire(new URL('../servers/package.json', import.meta.url))('openai');

const say = value => console.log(JSON.stringify(value));
let running;

const methods = {
  create: (client, body) => client.chat.completions.create(body),
  async stream(client, body) {
    running = await client.chat.completions.create({ ...body, stream: true });
    for await (const chunk of running) say({ chunk });
    return null;
  },
  helper: (client, body) => client.chat.completions.stream(body).finalChatCompletion(),
  async models(client) {
    const ids = [];
    for await (const model of client.models.list()) ids.push(model.id);
    return ids;
  },
  model: (client, id) => client.models.retrieve(id),
};

async function answer({ base, retries, method, body }) {
  const client = new OpenAI({ baseURL: `${base}/v1`, apiKey: 'none', maxRetries: retries, timeout: 30_000 });
  try {
    say({ value: await methods[method](client, body) });
  } catch (error) {
    const { status, code, param, type, message, requestID } = error;
    const retryAfter = error.headers?.get('retry-after');
    say({ error: { name: error.constructor.name, status, code, param, type, message, retryAfter, requestID } });
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  if (request.method === 'abort') running.controller.abort();
  else void answer(request);
}
