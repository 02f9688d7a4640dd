// Names nothing but by relative URL: the page does not know where it is.
const { headers } = await import('./headers.js');

await fetch('login');
const socket = new WebSocket('echo');
const received = [];
socket.onmessage = ({ data }) => {
  received.push(data);
  if (received.length < 3) socket.send(received.length === 1 ? 'hello' : 'x'.repeat(100_000));
  else socket.close(1000, 'done');
};
socket.onclose = async ({ code, wasClean }) => {
  window.seen = {
    cookies: received[0], echo: received[1], long: received[2]?.length, code, wasClean,
    headers: await headers('headers'), document: document.cookie,
  };
  document.querySelector('h1').textContent = 'done';
};
