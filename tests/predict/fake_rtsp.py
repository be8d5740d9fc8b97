"""A camera that speaks RTSP: MPEG-TS in RTP, through the connection of its control."""

import contextlib
import io
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

import av
import numpy as np

PACKETS = 188 * 7  # bytes of MPEG-TS in one packet of RTP
SDP = (
    "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=cam\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\n"
    "m=video 0 RTP/AVP 33\r\na=control:track1\r\n"
)
ANSWERS = {
    "DESCRIBE": f"Content-Type: application/sdp\r\nContent-Length: {len(SDP)}\r\n\r\n{SDP}",
    "SETUP": "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n\r\n",
}


@contextmanager
def camera(picture: np.ndarray) -> Iterator[str]:
    """The URL of a camera that shows a picture to whoever asks, ten frames a second."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):  # it is closed, or the reader has gone
                while True:
                    _talk(server.accept()[0], picture)

        Thread(target=serve, daemon=True).start()
        yield f"rtsp://me:secret@127.0.0.1:{server.getsockname()[1]}/cam"


def _talk(reader: socket.socket, picture: np.ndarray) -> None:
    with reader, contextlib.suppress(OSError), reader.makefile("rb") as asked:
        while line := asked.readline():
            verb, number = line.split()[0].decode(), ""
            while header := asked.readline().strip().decode():
                number = header if header.lower().startswith("cseq") else number
            answer = ANSWERS.get(verb, "\r\n")
            reader.sendall(f"RTSP/1.0 200 OK\r\n{number}\r\n{answer}".encode())
            if verb == "PLAY":
                _play(reader, picture)


def _play(reader: socket.socket, picture: np.ndarray) -> None:
    number, written = 0, io.BytesIO()
    written.seekable = lambda: False
    with av.open(written, "w", format="mpegts") as clip:
        stream = clip.add_stream("mpeg2video", rate=10)
        stream.height, stream.width, stream.pix_fmt = *picture.shape[:2], "yuv420p"
        while True:
            clip.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            content = written.getvalue()
            written.seek(0)
            written.truncate()
            for at in range(0, len(content), PACKETS):
                head = struct.pack(">BBHII", 0x80, 33, number % 2**16, number * 90, 7)
                packet = head + content[at : at + PACKETS]
                reader.sendall(struct.pack(">BBH", 0x24, 0, len(packet)) + packet)
                number += 1
