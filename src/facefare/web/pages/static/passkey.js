// Make a passkey, or sign in with one. Only what the server must see is sent: never the results of
// extensions, for the secret of the PRF extension is among them and stays on this device.

const button = document.getElementById("passkey");
const problem = document.getElementById("problem");

const bytes = (text) =>
  Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (character) => character.charCodeAt(0));
const text = (buffer) =>
  btoa(String.fromCharCode(...new Uint8Array(buffer))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");

class Refused extends Error {}

async function post(path, body) {
  const response = await fetch(`/app/${path}`, {
    method: "POST",
    headers: { "Content-Type": "application/json", Accept: "application/json" },
    body: JSON.stringify(body ?? {}),
  });
  const answer = await response.json();
  if (!response.ok) throw new Refused(answer.problem);
  return answer;
}

async function signUp() {
  const options = await post("passkeys/options");
  const credential = await navigator.credentials.create({
    publicKey: {
      ...options,
      challenge: bytes(options.challenge),
      user: { ...options.user, id: bytes(options.user.id) },
      excludeCredentials: options.excludeCredentials.map((known) => ({ ...known, id: bytes(known.id) })),
      extensions: { prf: {} },
    },
  });
  return post("passkeys", {
    id: credential.id,
    rawId: text(credential.rawId),
    type: credential.type,
    response: {
      clientDataJSON: text(credential.response.clientDataJSON),
      attestationObject: text(credential.response.attestationObject),
    },
  });
}

async function signIn() {
  const options = await post("sign-in/options");
  const credential = await navigator.credentials.get({
    publicKey: { ...options, challenge: bytes(options.challenge), allowCredentials: [] },
  });
  const { clientDataJSON, authenticatorData, signature, userHandle } = credential.response;
  return post("sign-in", {
    id: credential.id,
    rawId: text(credential.rawId),
    type: credential.type,
    response: {
      clientDataJSON: text(clientDataJSON),
      authenticatorData: text(authenticatorData),
      signature: text(signature),
      userHandle: userHandle && text(userHandle),
    },
  });
}

function tell(sentence) {
  problem.textContent = sentence;
  problem.hidden = false;
}

if (window.PublicKeyCredential) {
  button.addEventListener("click", async () => {
    button.disabled = true;
    problem.hidden = true;
    try {
      const { next } = await (button.dataset.do === "sign-up" ? signUp() : signIn());
      location.assign(button.dataset.to ?? next);
    } catch (error) {
      tell(error instanceof Refused ? error.message : button.dataset.failed);
    } finally {
      button.disabled = false;
    }
  });
} else {
  button.disabled = true;
  tell(button.dataset.unsupported);
}
